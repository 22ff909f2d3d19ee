/* Which emoji the demo learns from. */
#include "training.h"

/* First and last code points of what is drawn large: faces, busts of people, hands, hearts, heads of animals, flags,
 * moons, clocks. */
static const uint32_t wanted[][2] = {
    {0x1f1e6, 0x1f1ff}, {0x261d, 0x261d},   {0x2639, 0x263a},   {0x2648, 0x2653},   {0x2665, 0x2665},
    {0x270a, 0x270d},   {0x2764, 0x2764},   {0x1f30d, 0x1f31e}, {0x1f385, 0x1f385}, {0x1f3f4, 0x1f3f4},
    {0x1f42d, 0x1f43d}, {0x1f442, 0x1f443}, {0x1f446, 0x1f450}, {0x1f466, 0x1f478}, {0x1f47c, 0x1f47c},
    {0x1f47f, 0x1f47f}, {0x1f481, 0x1f482}, {0x1f486, 0x1f487}, {0x1f493, 0x1f49f}, {0x1f4aa, 0x1f4aa},
    {0x1f550, 0x1f567}, {0x1f590, 0x1f590}, {0x1f595, 0x1f596}, {0x1f5a4, 0x1f5a4}, {0x1f600, 0x1f64f},
    {0x1f90c, 0x1f920}, {0x1f922, 0x1f92f}, {0x1f932, 0x1f937}, {0x1f970, 0x1f97a}, {0x1f981, 0x1f981},
    {0x1f984, 0x1f984}, {0x1f98a, 0x1f98a}, {0x1f9d0, 0x1f9d5}, {0x1f9d9, 0x1f9d9}, {0x1f9db, 0x1f9db},
    {0x1f9dd, 0x1f9dd}, {0x1f9e1, 0x1f9e1}, {0x1fa75, 0x1fa77}, {0x1fae0, 0x1fae8}, {0x1faf0, 0x1faf8}};
/* Whole bodies, walking, dancing or in wheelchairs: a few thin lines at 32 pixels. */
static const uint32_t unwanted[][2] = {{0x27a1, 0x27a1}, {0x1f46f, 0x1f46f}, {0x1f9af, 0x1f9bd}};

static bool is_in(uint32_t character, const uint32_t (*ranges)[2], size_t count) {
    for (size_t i = 0; i < count; i++)
        if (character >= ranges[i][0] && character <= ranges[i][1]) return true;
    return false;
}

bool emoji_is_drawn_large(const uint32_t *characters, int count) {
    bool is_wanted = false;
    for (int i = 0; i < count; i++) {
        if (is_in(characters[i], unwanted, sizeof unwanted / sizeof *unwanted)) return false;
        is_wanted = is_wanted || is_in(characters[i], wanted, sizeof wanted / sizeof *wanted);
    }
    return is_wanted;
}
