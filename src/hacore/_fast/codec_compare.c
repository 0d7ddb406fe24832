#include "codec_compare.h"

int all_ascend(const Row *const *order, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (memcmp(order[i - 1], order[i], KEY_BYTES) >= 0) return 0;
    return 1;
}

void compare_rows(const Row *old, size_t old_count, const Row *new, size_t new_count, Difference *found) {
    size_t before = 0, after = 0;
    while (before < old_count || after < new_count) {
        int order = before == old_count ? 1 : after == new_count ? -1 : memcmp(&old[before], &new[after], KEY_BYTES);
        if (order < 0) {
            found->deleted[found->deleted_count++] = (int64_t)before++;
        } else if (order > 0) {
            found->inserted[found->inserted_count++] = (int64_t)after++;
        } else {
            if (memcmp(&old[before], &new[after], ROW_BYTES)) {
                found->before[found->updated_count] = (int64_t)before;
                found->after[found->updated_count++] = (int64_t)after;
            }
            before++, after++;
        }
    }
}
