/* The library's version, and what this build of it is. */
#include <cresset/core.h>

#define TEXT(x)                           #x
#define VERSION_TEXT(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)
#define VERSION                           VERSION_TEXT(CR_VERSION_MAJOR, CR_VERSION_MINOR, CR_VERSION_PATCH)

const char *cr_version(void) { return VERSION; }

/* The build gives these words to this file. */
#ifndef CRESSET_BUILD_TYPE
#define CRESSET_BUILD_TYPE "unknown"
#endif
#ifndef CRESSET_VARIANT_NAMES
#define CRESSET_VARIANT_NAMES "unknown"
#endif

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

const cr_text_pair *cr_build_info(int *count) {
    static const cr_text_pair info[] = {
        {"version", VERSION},
        {"build", CRESSET_BUILD_TYPE},
        {"compiler", COMPILER},
#ifdef _OPENMP
        {"threads", "OpenMP"},
#else
        {"threads", "POSIX threads"},
#endif
#ifdef CRESSET_HAS_LIBJPEG
        {"images", "stb, giflib, zlib, libjpeg-turbo"},
#elif defined CRESSET_HAS_IMAGES
        {"images", "stb, giflib, zlib"},
#else
        {"images", "none: built without CRESSET_IMAGES"},
#endif
#ifdef CRESSET_HAS_SUMMARY
        {"TensorBoard files", "protobuf-c"},
#else
        {"TensorBoard files", "none: built without CRESSET_SUMMARY"},
#endif
        {"instruction sets built", CRESSET_VARIANT_NAMES},
    };
    if (count) *count = (int)(sizeof info / sizeof *info);
    return info;
}
