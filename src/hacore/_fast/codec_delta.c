#include "codec_delta.h"

int all_ascend(const Row *const *order, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (memcmp(order[i - 1], order[i], KEY_BYTES) >= 0) return 0;
    return 1;
}

void difference_close(Difference *d) {
    free(d->inserted);
    free(d->before);
    free(d->after);
    free(d->updated);
    free(d->deleted);
    memset(d, 0, sizeof *d);
}

int difference_open(Difference *d, const Row *const *before, size_t before_count, const Row *const *after, size_t after_count) {
    size_t both = before_count < after_count ? before_count : after_count;
    memset(d, 0, sizeof *d);
    d->inserted = malloc((after_count + 1) * sizeof *d->inserted);
    d->before = malloc((both + 1) * sizeof *d->before);
    d->after = malloc((both + 1) * sizeof *d->after);
    d->updated = malloc((both + 1) * sizeof *d->updated);
    d->deleted = malloc((before_count + 1) * sizeof *d->deleted);
    if (!d->inserted || !d->before || !d->after || !d->updated || !d->deleted) {
        difference_close(d);
        return -1;
    }
    size_t old = 0, new = 0;
    while (old < before_count || new < after_count) {
        int order = old == before_count ? 1 : new == after_count ? -1 : memcmp(before[old], after[new], KEY_BYTES);
        if (order < 0) {
            d->deleted[d->deleted_count++] = old++;
        } else if (order > 0) {
            d->inserted[d->inserted_count++] = after[new ++];
        } else {
            if (memcmp(before[old], after[new], ROW_BYTES)) {
                d->updated[d->updated_count] = old;
                d->before[d->updated_count] = before[old];
                d->after[d->updated_count++] = after[new];
            }
            old++, new ++;
        }
    }
    return 0;
}
