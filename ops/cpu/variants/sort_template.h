/* Sorting and selecting of items of one type. An item is a key above an index: all differ, and their order is the
 * stable order of the keys. Included with ITEM, KEY (unsigned types), SUFFIX and INDEX_BITS defined. */
#define SORT_PASTE_(name, suffix) name##_##suffix
#define SORT_PASTE(name, suffix)  SORT_PASTE_(name, suffix)
#define SORT_NAME(name)           SORT_PASTE(name, SUFFIX)

static void SORT_NAME(insertion_sort)(ITEM *items, int64_t count) {
    for (int64_t i = 1; i < count; i++) {
        const ITEM item = items[i];
        int64_t k = i;
        for (; k > 0 && item < items[k - 1]; k--)
            items[k] = items[k - 1];
        items[k] = item;
    }
}

/* Runs of SHORT, then merges between the two buffers; returns the one that holds the result. */
static ITEM *SORT_NAME(merge_sort)(ITEM *items, ITEM *other, int64_t count) {
    for (int64_t i = 0; i < count; i += SHORT)
        SORT_NAME(insertion_sort)(items + i, count - i < SHORT ? count - i : SHORT);
    for (int64_t width = SHORT; width < count; width *= 2) {
        for (int64_t start = 0; start < count; start += 2 * width) {
            const int64_t middle = start + width < count ? start + width : count,
                          end = middle + width < count ? middle + width : count;
            int64_t left = start, right = middle, to = start;
            while (left < middle && right < end) {
                const bool take_right = items[right] < items[left];
                other[to++] = items[take_right ? right : left];
                right += take_right;
                left += !take_right;
            }
            while (left < middle)
                other[to++] = items[left++];
            while (right < end)
                other[to++] = items[right++];
        }
        ITEM *swap = items;
        items = other;
        other = swap;
    }
    return items;
}

/* Bytes of the keys from the lowest to the highest; a byte that all keys share costs nothing. The items must stand in
 * the order of their indices. */
static ITEM *SORT_NAME(radix_sort)(ITEM *items, ITEM *other, int64_t count) {
    enum { BYTES = sizeof(KEY) };
    uint32_t counts[BYTES][256] = {{0}};
    for (int64_t i = 0; i < count; i++) {
        const KEY key = (KEY)(items[i] >> INDEX_BITS);
        for (int b = 0; b < BYTES; b++)
            counts[b][key >> (8 * b) & 255]++;
    }
    for (int b = 0; b < BYTES; b++) {
        const int shift = INDEX_BITS + 8 * b;
        if (counts[b][(uint8_t)(items[0] >> shift)] == (uint64_t)count) continue;
        uint32_t place = 0;
        for (int k = 0; k < 256; k++) {
            const uint32_t many = counts[b][k];
            counts[b][k] = place;
            place += many;
        }
        for (int64_t i = 0; i < count; i++)
            other[counts[b][(uint8_t)(items[i] >> shift)]++] = items[i];
        ITEM *swap = items;
        items = other;
        other = swap;
    }
    return items;
}

/* Items that stand in the order of their indices. */
static ITEM *SORT_NAME(sort_items)(ITEM *items, ITEM *other, int64_t count) {
    return count < 384 ? SORT_NAME(merge_sort)(items, other, count) : SORT_NAME(radix_sort)(items, other, count);
}

/* The least `k` items to the front, in no order (Hoare's quickselect; 0 < k < count). */
static void SORT_NAME(select_items)(ITEM *items, int64_t count, int64_t k) {
    int64_t low = 0, high = count - 1;
    while (high - low > SHORT) {
        const ITEM a = items[low], b = items[low + (high - low) / 2], c = items[high];
        const ITEM pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        int64_t i = low - 1, j = high + 1;
        for (;;) {
            do
                i++;
            while (items[i] < pivot);
            do
                j--;
            while (pivot < items[j]);
            if (i >= j) break;
            const ITEM swap = items[i];
            items[i] = items[j];
            items[j] = swap;
        }
        if (k <= j + 1)
            high = j;
        else
            low = j + 1;
    }
    SORT_NAME(insertion_sort)(items + low, high - low + 1);
}

/* Leaves the least `k` of the items, in the order in which they stand; returns the largest of those. */
static ITEM SORT_NAME(keep_least)(ITEM *items, ITEM *other, int64_t count, int64_t k) {
    memcpy(other, items, (size_t)count * sizeof *items);
    SORT_NAME(select_items)(other, count, k);
    ITEM largest = other[0];
    for (int64_t i = 1; i < k; i++)
        largest = other[i] > largest ? other[i] : largest;
    for (int64_t i = 0, to = 0; to < k; i++) {
        items[to] = items[i];
        to += items[i] <= largest;
    }
    return largest;
}

static inline ITEM SORT_NAME(item_of)(KEY key, int64_t index) {
    return (ITEM)key << INDEX_BITS | (ITEM)(uint64_t)index;
}

/* The best `k` of a line in their order; where they are, is returned. Candidates gather in a buffer that is cut to the
 * k best when full; keys that cannot be among those are passed over CHUNK at a time. */
static ITEM *SORT_NAME(best_of_line)(const sort_job *job, const char *line, ITEM *items, ITEM *other) {
    KEY keys[CHUNK];
    const bool all = job->kept == job->length;
    int64_t held = 0;
    KEY limit = (KEY) ~(KEY)0; /* the k-th best so far; later equal ones are worse */
    bool is_open = true;       /* nothing was cut yet: also the last key of all may enter */
    for (int64_t start = 0; start < job->length; start += CHUNK) {
        const int64_t count = job->length - start < CHUNK ? job->length - start : CHUNK;
        SORT_NAME(read_keys)(job, line, start, count, keys);
        if (all) {
            for (int64_t i = 0; i < count; i++)
                items[held++] = SORT_NAME(item_of)(keys[i], start + i);
            continue;
        }
        KEY least = keys[0];
        for (int64_t i = 1; i < count; i++)
            least = keys[i] < least ? keys[i] : least;
        if (least >= limit && !is_open) continue;
        for (int64_t i = 0; i < count; i++) {
            if (keys[i] >= limit && !is_open) continue;
            items[held++] = SORT_NAME(item_of)(keys[i], start + i);
            if (held < job->room) continue;
            limit = (KEY)(SORT_NAME(keep_least)(items, other, held, job->kept) >> INDEX_BITS);
            held = job->kept;
            is_open = false;
        }
    }
    if (held > job->kept) SORT_NAME(keep_least)(items, other, held, job->kept);
    return SORT_NAME(sort_items)(items, other, job->kept);
}

static void SORT_NAME(sort_line)(const sort_job *job, int64_t line, ITEM *items, ITEM *other) {
    const int64_t outer = line / job->inner, column = line % job->inner;
    const char *source = job->source + (size_t)(outer * job->length * job->inner + column) * job->bytes;
    const ITEM *sorted = SORT_NAME(best_of_line)(job, source, items, other);
    const int64_t target = outer * job->kept * job->inner + column;
    for (int64_t i = 0; i < job->kept; i++) {
        const int64_t index = (int64_t)(uint32_t)sorted[i];
        job->indices[target + i * job->inner] = index;
        if (job->values) move_element(job, target + i * job->inner, source, index * job->inner);
    }
}

/* Each slot has a share of the lines, and room to sort one. */
static void SORT_NAME(sort_slots)(void *context, int64_t begin, int64_t end) {
    const sort_job *job = context;
    for (int64_t slot = begin; slot < end; slot++) {
        ITEM *items = (ITEM *)(void *)job->scratch + slot * 2 * job->room;
        for (int64_t line = slot * job->lines / job->slots; line < (slot + 1) * job->lines / job->slots; line++)
            SORT_NAME(sort_line)(job, line, items, items + job->room);
    }
}

#undef SORT_PASTE_
#undef SORT_PASTE
#undef SORT_NAME
#undef ITEM
#undef KEY
#undef SUFFIX
#undef INDEX_BITS
