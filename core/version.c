/* The library's version, as text. */
#include <cresset/core.h>

#define TEXT(x)                           #x
#define VERSION_TEXT(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *cr_version(void) { return VERSION_TEXT(CR_VERSION_MAJOR, CR_VERSION_MINOR, CR_VERSION_PATCH); }
