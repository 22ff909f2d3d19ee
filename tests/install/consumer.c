/* A program outside the tree: it must build against what is installed, as C99 and as C++. Prints the version and the
 * sum of 0 … 6. */
#include <cresset.h>

#include <stdio.h>

int main(void) {
    double sum = 0;
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    const float values[] = {0, 1, 2, 3, 4, 5, 6};
    cr_tensor *x = cr_from_data(CR_F32, CR_SHAPE(7), values);
    for (int64_t i = 0; i < cr_size(x, 0); i++)
        sum += cr_at(x, CR_SHAPE(i));
    cr_scope_close(&scope);
    printf("Cresset %s: %g\n", cr_version(), sum);
    if (cr_memory_stats().live_bytes != 0) return 2;
    return cr_report(stderr);
}
