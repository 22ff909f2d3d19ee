/* The event file writer, for the files that make events. */
#ifndef CRESSET_SUMMARY_WRITER_H
#define CRESSET_SUMMARY_WRITER_H

#include <cresset/summary.h>

#include "summary/event.pb-c.h"

/* Appends the event as one record. False and an error on failure. */
bool cr_summary_append(cr_summary_writer *writer, const Cr__Event *event);
/* The same for a summary of one value under `tag`; fills in the time, the step and the tag. `caller` names the function
 * in messages. */
bool cr_summary_append_value(cr_summary_writer *writer, const char *caller, const char *tag, Cr__Summary__Value *value,
                             int64_t step);
/* False and an error unless the text is there and is UTF-8: TensorBoard stops reading a file at a tag that is not. */
bool cr_summary_check_text(const char *caller, const char *what, const char *text);
/* Seconds since 1970. */
double cr_summary_wall_time(void);

#endif
