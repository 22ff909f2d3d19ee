/* Histograms by TensorFlow's default buckets: limits 0 and ±1e-12 × 1.1^i below 1e20, each bucket closed on the
 * left. */
#ifdef CRESSET_HAS_SUMMARY
#include "core/tensor.h"
#include "summary/writer.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { POSITIVE_LIMITS = 774, LIMITS = 2 * POSITIVE_LIMITS + 1, BUCKETS = LIMITS - 1 };

static double limits[LIMITS]; /* ascending; limits[POSITIVE_LIMITS] is 0 */
static pthread_once_t limits_once = PTHREAD_ONCE_INIT;

/* By repeated multiplication, as TensorFlow and PyTorch do, so that the limits agree to the last bit. */
static void fill_limits(void) {
    double limit = 1e-12;
    for (int i = 1; i <= POSITIVE_LIMITS; i++, limit *= 1.1) {
        limits[POSITIVE_LIMITS + i] = limit;
        limits[POSITIVE_LIMITS - i] = -limit;
    }
}

typedef struct tally {
    double counts[BUCKETS];
    double min, max, number, sum, sum_squares;
} tally;

/* The bucket b with limits[b] ≤ value < limits[b + 1]; the outermost ones take what lies beyond. */
static int bucket_of(double value) {
    int low = 0, high = BUCKETS;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (value < limits[middle])
            high = middle;
        else
            low = middle;
    }
    return low;
}

static void tally_one(tally *t, double value) {
    if (!isfinite(value)) return;
    if (t->number == 0 || value < t->min) t->min = value;
    if (t->number == 0 || value > t->max) t->max = value;
    t->number++;
    t->sum += value;
    t->sum_squares += value * value;
    t->counts[bucket_of(value)]++;
}

/* Only the range of buckets that hold something is stored, with an empty one before it that gives its left edge. */
static bool append_tally(cr_summary_writer *writer, const char *tag, tally *t, int64_t step) {
    int first = 0, last = BUCKETS - 1;
    while (first < last && t->counts[first] == 0)
        first++;
    while (last > first && t->counts[last] == 0)
        last--;
    const int count = t->number > 0 ? last - first + 2 : 1;
    double buckets[BUCKETS + 1] = {0};
    if (t->number > 0) memcpy(buckets + 1, t->counts + first, sizeof(double) * (size_t)(count - 1));
    Cr__Histogram histogram = CR__HISTOGRAM__INIT;
    histogram.min = t->min;
    histogram.max = t->max;
    histogram.num = t->number;
    histogram.sum = t->sum;
    histogram.sum_squares = t->sum_squares;
    histogram.n_bucket_limit = histogram.n_bucket = (size_t)count;
    histogram.bucket_limit = t->number > 0 ? limits + first : limits + POSITIVE_LIMITS;
    histogram.bucket = buckets;
    Cr__Summary__Value value = CR__SUMMARY__VALUE__INIT;
    value.value_case = CR__SUMMARY__VALUE__VALUE_HISTO;
    value.histo = &histogram;
    return cr_summary_append_value(writer, "summary_histogram", tag, &value, step);
}

static void tally_data(tally *t, cr_dtype dtype, const char *data, int64_t count) {
    const size_t size = cr_dtype_size(dtype);
    for (int64_t i = 0; i < count; i++)
        tally_one(t, cr_element_decode(data + (size_t)i * size, dtype).real);
}

bool cr_summary_histogram(cr_summary_writer *writer, const char *tag, const cr_tensor *values, int64_t step) {
    if (!writer) return cr_fail(CR_ERROR_ARGUMENT, "summary_histogram: the writer is NULL");
    if (!cr_tensor_check(values, "summary_histogram")) return false;
    if (values->numel == 0)
        return cr_fail(CR_ERROR_SHAPE, "summary_histogram: the tensor of \"%.80s\" has no elements", tag ? tag : "");
    pthread_once(&limits_once, fill_limits);
    const cr_dtype dtype = (cr_dtype)values->dtype;
    const size_t bytes = (size_t)values->numel * cr_dtype_size(dtype);
    void *data = cr_malloc(bytes);
    tally *t = data ? cr_calloc(1, sizeof *t) : NULL;
    bool ok = t && cr_copy_to_host(values, data, bytes);
    if (ok) {
        tally_data(t, dtype, data, values->numel);
        ok = append_tally(writer, tag, t, step);
    }
    cr_free(data);
    cr_free(t);
    return ok;
}
#else
typedef int cr_summary_histogram_is_absent; /* summary/absent.c stands in */
#endif
