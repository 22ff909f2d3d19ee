/* JSON that the commands print. */
#ifndef CRESSET_TOOLS_JSON_H
#define CRESSET_TOOLS_JSON_H

#include <cresset.h>

#include <jansson.h>

/* On standard output, indented, with a newline; numbers with nine digits, which is what an f32 needs. */
void print_json(const json_t *value);
/* A number; NaN and infinities, which JSON has not, are null. */
json_t *json_number(double value);
/* [2,3] */
json_t *json_shape(cr_shape shape);
/* {"dtype": "f32", "shape": [2,3], "values": [[…],[…]]}; with `top` in place of the values the greatest ones along the
 * last dim with their places; past `most` elements (0: no limit) the least, the greatest and the mean. NULL and an error
 * on failure. */
json_t *json_tensor(cr_tensor *t, int64_t top, int64_t most);

#endif
