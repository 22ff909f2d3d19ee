# cresset_compile_proto(folder file.proto library folder): messages compiled by protoc-c into generated/FOLDER and added to
# the library; their symbols stay hidden.
function(cresset_compile_proto from name to)
  set(generated ${PROJECT_BINARY_DIR}/generated/${to})
  file(MAKE_DIRECTORY ${generated})
  add_custom_command(
    OUTPUT ${generated}/${name}.pb-c.c ${generated}/${name}.pb-c.h
    COMMAND ${PROTOC_C} --proto_path=${from} --c_out=${generated} ${name}.proto
    DEPENDS ${from}/${name}.proto
    VERBATIM)
  add_custom_target(cresset_${name}_proto ALL DEPENDS ${generated}/${name}.pb-c.c ${generated}/${name}.pb-c.h)
  target_sources(cresset_objects PRIVATE ${generated}/${name}.pb-c.c)
  set_source_files_properties(${generated}/${name}.pb-c.c TARGET_DIRECTORY cresset_objects
                              PROPERTIES GENERATED TRUE COMPILE_OPTIONS -w)
  add_dependencies(cresset_objects cresset_${name}_proto)
endfunction()
