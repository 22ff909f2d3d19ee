/* A text that grows. The first failed allocation sticks: check once, at the end. */
#ifndef CRESSET_CORE_TEXT_H
#define CRESSET_CORE_TEXT_H

#include <cresset/core.h>

typedef struct cr_text {
    char *at; /* from cr_malloc; NULL until something is added, and after a failure */
    size_t length, capacity;
    bool failed;
} cr_text;

void cr_text_add(cr_text *text, const char *format, ...) CR_PRINTF(2, 3);
/* A text as it is, which may be long. */
void cr_text_add_all(cr_text *text, const char *all);
/* The text, for cr_free; NULL and an error where one of its allocations failed. */
char *cr_text_end(cr_text *text);

#endif
