/* Results that are larger than the caches go past them: an ordinary store first reads the line that it writes to. They
 * are made in short blocks, in the nearest cache, and streamed from there. */
#ifndef CRESSET_OPS_CPU_STREAM_H
#define CRESSET_OPS_CPU_STREAM_H

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

enum { STREAM_BYTES = 512, STREAM_LINE = 64, STREAMED_LEAST = 32 << 20 };

static inline void stream_line(char *to, const char *from) {
#if defined(__AVX512F__)
    _mm512_stream_si512((void *)to, _mm512_loadu_si512(from));
#elif defined(__SSE2__)
    for (int i = 0; i < STREAM_LINE; i += 16)
        _mm_stream_si128((void *)(to + i), _mm_loadu_si128((const void *)(from + i)));
#else
    memcpy(to, from, STREAM_LINE);
#endif
}

static inline void stream(char *to, const char *from, size_t bytes) {
    const size_t before = -(uintptr_t)to % STREAM_LINE, head = before < bytes ? before : bytes;
    memcpy(to, from, head);
    size_t done = head;
    for (; done + STREAM_LINE <= bytes; done += STREAM_LINE)
        stream_line(to + done, from + done);
    memcpy(to + done, from + done, bytes - done);
}

/* Others may read after this what was streamed. */
static inline void stream_end(void) {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
