// Rotary positions.
//
// grid: min(rows, 65535), block: 128, shared: 0 bytes
//     for rotary
#ifndef SKN_JOINED
#include "common.cuh"
#endif

// Turns the pair (i, i + angles) of each head by the angle i of the row's position: with c, s its cosine and
// sine, (x, y) becomes (x c - y s, y c + x s); what is behind the pairs of a head stays. x and out [rows,
// heads * head_width], table [positions, 2 * angles]: cosines, then sines; position [rows]. back = 1 turns
// back: the gradient.
extern "C" __global__ void __launch_bounds__(128)
    rotary(float *__restrict__ out, const float *__restrict__ x, const float *__restrict__ table,
           const u32 *__restrict__ position, u32 rows, u32 heads, u32 head_width, u32 angles, u32 back)
{
    // A pair is one piece of work, and so is a number that stays.
    const u32 of_head = head_width - angles, of_row = heads * of_head;
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *cosines = table + u64(position[row]) * (2 * angles), *sines = cosines + angles;
        for (u32 piece = threadIdx.x; piece < of_row; piece += blockDim.x) {
            const u32 i = piece % of_head;
            const u64 head = (row * heads + piece / of_head) * head_width;
            if (i >= angles) {
                out[head + angles + i] = x[head + angles + i];
                continue;
            }
            const float a = x[head + i], b = x[head + angles + i];
            const float cosine = cosines[i], sine = back != 0 ? -sines[i] : sines[i];
            out[head + i] = a * cosine - b * sine;
            out[head + angles + i] = b * cosine + a * sine;
        }
    }
}
