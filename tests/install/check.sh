#!/bin/bash
# One check per call, named by the first argument: a program outside the tree uses the installed library, each header
# stands alone, and the libraries are small and show nothing but names that begin with cr_.
# CMake sets SOURCE, BUILD, LIBDIR, CC, CMAKE, SHARED and STATIC.
set -eu

prefix=$BUILD/tests/install/prefix
work=$BUILD/tests/install/work-$1
here=$SOURCE/tests/install
rm -rf "$work"
mkdir -p "$work"
cd "$work"
export PKG_CONFIG_PATH=$prefix/$LIBDIR/pkgconfig

fail() {
    echo "$*" >&2
    exit 1
}

# The library is loaded from the prefix alone; $2 says whether the program may need the shared one.
run_consumer() {
    local needs_shared
    needs_shared=$(objdump -p "$1" | grep -c 'NEEDED.*libcresset.so.0' || true)
    [ "$needs_shared" = "$2" ] || fail "$1 needs libcresset.so.0: $needs_shared, expected: $2"
    [ "$(LD_LIBRARY_PATH=$prefix/$LIBDIR "./$1")" = "Cresset $(pkg-config --modversion cresset): 21" ] ||
        fail "$1 printed something else than expected"
}

into_prefix() {
    rm -rf "$prefix"
    "$CMAKE" --install "$BUILD" --prefix "$prefix" >install.log
    for file in include/cresset.h include/cresset/core.h "$LIBDIR"/libcresset.{a,so,so.0} \
        "$LIBDIR"/pkgconfig/cresset.pc "$LIBDIR"/cmake/Cresset/CressetConfig.cmake; do
        [ -e "$prefix/$file" ] || fail "$file was not installed"
    done
    for header in "$SOURCE"/include/cresset/*.h; do
        cmp "$header" "$prefix/include/cresset/${header##*/}"
    done
    objdump -p "$prefix/$LIBDIR/libcresset.so" | grep -q 'SONAME *libcresset.so.0$' || fail "the soname is not libcresset.so.0"
    # DESTDIR is honoured, and the pkg-config file then speaks of the prefix's place, wherever that is.
    DESTDIR=$work/stage "$CMAKE" --install "$BUILD" --prefix /usr/local >stage.log
    [ -e "$work/stage/usr/local/include/cresset.h" ] || fail "DESTDIR was not honoured"
    mv stage/usr/local moved
    PKG_CONFIG_PATH=$work/moved/$LIBDIR/pkgconfig pkg-config --cflags cresset | grep -q "$work/moved" ||
        fail "the pkg-config file does not follow a moved prefix"
    rm -rf stage moved
}

pkg_config_shared() {
    "$CC" -std=c99 -Wall -Wextra -Werror "$here/consumer.c" -o consumer $(pkg-config --cflags --libs cresset)
    run_consumer consumer 1
}

pkg_config_static() {
    "$CC" -std=c99 -Wall -Wextra -Werror "$here/consumer.c" -o consumer $(pkg-config --static --cflags --libs cresset-static)
    run_consumer consumer 0
    # The customary way works as well, where the linker is told to prefer archives for our library.
    "$CC" "$here/consumer.c" -o consumer2 $(pkg-config --cflags cresset) \
        $(pkg-config --static --libs cresset | sed 's/-lcresset/-l:libcresset.a/')
    run_consumer consumer2 0
}

find_package() {
    "$CMAKE" -S "$here/consumer" -B build -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$CC" >configure.log
    "$CMAKE" --build build >build.log || { cat build.log; exit 1; }
    cp build/consumer_shared build/consumer_static .
    run_consumer consumer_shared 1
    run_consumer consumer_static 0
}

# compile_headers LABEL COMPILER … : each public header alone, the umbrella, and a program that uses the macros.
compile_headers() {
    local label=$1 extension=$2
    shift 2
    for header in cresset.h $(cd "$SOURCE/include" && ls cresset/*.h); do
        printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' "$header" "$header" >one.$extension
        "$@" -I "$SOURCE/include" -c one.$extension -o one.o || fail "$header does not compile as $label"
    done
    "$@" -isystem "$SOURCE/include" -c "$here/consumer.c" -o one.o || fail "the consumer does not compile as $label"
}

headers_c99() {
    # Named options override their defaults without a word.
    "$CC" -std=gnu17 -Wall -Wextra -Werror -isystem "$SOURCE/include" -c "$here/options.c" -o options.o
    compile_headers C99 c "$CC" -std=c99 -Wall -Wextra -Wpedantic -Werror
    compile_headers C11 c "$CC" -std=c11 -Wall -Wextra -Wpedantic -Werror
    if command -v clang >/dev/null; then
        clang -std=gnu17 -Wall -Wextra -Werror -isystem "$SOURCE/include" -c "$here/options.c" -o options.o
        compile_headers "clang's C99" c clang -std=c99 -Wall -Wextra -Wpedantic -Werror
    fi
}

headers_cxx() {
    command -v g++ >/dev/null || exit 77
    compile_headers C++11 cpp g++ -std=c++11 -x c++ -Wall -Wextra -Wpedantic -Werror
    compile_headers C++20 cpp g++ -std=c++20 -x c++ -Wall -Wextra -Wpedantic -Werror
}

only_our_names() {
    local strangers
    [ -s names ] || fail "$1 shows no symbols at all"
    strangers=$(grep -v '^cr_' names || true)
    [ -z "$strangers" ] || fail "$1 shows names that do not begin with cr_:"$'\n'"$strangers"
}

# What the dynamic linker can see, apart from the linker's own marks.
symbols_shared() {
    nm -D --defined-only "$SHARED" | awk '{ print $3 }' | sed 's/@.*//' | sort -u >names
    only_our_names libcresset.so
    # Every function that a public header declares is there.
    cat "$SOURCE"/include/cresset/*.h | tr '\n' ' ' | grep -oE 'CR_API [^;({]*\(' | grep -oE 'cr_[a-z0-9_]+ *\($' |
        tr -d ' (' | sort -u >declared
    local absent
    absent=$(comm -13 names declared)
    [ -z "$absent" ] || fail "declared in a header, but not in libcresset.so:"$'\n'"$absent"
}

symbols_static() {
    nm -g --defined-only "$STATIC" | awk 'NF == 3 && $2 != "w" && $2 != "u" { print $3 }' | sort -u >names
    only_our_names libcresset.a
}

# A few megabytes, with the kernels of all instruction sets and the JIT.
size_shared() {
    strip -o stripped.so "$SHARED"
    local bytes
    bytes=$(stat -c %s stripped.so)
    [ "$bytes" -gt 500000 ] || fail "libcresset.so has $bytes bytes stripped: what is missing?"
    [ "$bytes" -lt 4000000 ] || fail "libcresset.so has $bytes bytes stripped; 4,000,000 are the most"
}

"$1"
