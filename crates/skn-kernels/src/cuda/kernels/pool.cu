// What probing takes of activations.
//
// grid: (texts, ceil(width / 128)), block: 128, shared: 0 bytes for pool_rows
// grid: min(ceil(count / 1024), 65535), block: 256, shared: 0 bytes for first_not_finite
#ifndef SKN_JOINED
#include "common.cuh"
#endif

// Mean and maximum of each column over the rows first[t] .. first[t] + count[t] of x [.., width] for each
// text t: mean and max [texts, width]. As the CPU does it: summed in f64, ascending, divided in f64, then
// rounded; of 0 and -0 the first one is the maximum. Either may be null. Texts without rows have no mean
// (NaN) and the maximum -infinity.
extern "C" __global__ void __launch_bounds__(128)
    pool_rows(float *__restrict__ mean, float *__restrict__ max, const float *__restrict__ x,
              const u32 *__restrict__ first, const u32 *__restrict__ count, u32 texts, u32 width)
{
    const u32 text = blockIdx.x, column = blockIdx.y * blockDim.x + threadIdx.x;
    if (text >= texts || column >= width)
        return;
    const u32 rows = count[text];
    const float *number = x + u64(first[text]) * width + column;
    double sum = 0.0;
    float most = -infinity();
    SKN_UNROLL_BY(8)
    for (u32 row = 0; row < rows; row++) {
        const float value = number[u64(row) * width];
        sum += double(value);
        most = value > most ? value : most;
    }
    const u64 place = u64(text) * width + column;
    if (mean != nullptr)
        mean[place] = float(sum / double(rows));
    if (max != nullptr)
        max[place] = most;
}

struct FirstNotFinite {
    u64 *found;
    const float *x;

    template <int COUNT> __device__ void at(u64 place) const
    {
        const Few<COUNT> few = load<COUNT>(x + place);
        // From the last to the first, so that the first stays. An exponent of all ones is infinity or NaN.
        SKN_UNROLL
        for (int i = COUNT - 1; i >= 0; i--)
            if ((__float_as_uint(few.of[i]) & 0x7f800000) == 0x7f800000)
                atomicMin(found, place + i);
    }
};

// Lowers found [1] to the place of the first number of x [count] that is NaN or infinite, if there is one
// before it.
extern "C" __global__ void __launch_bounds__(256)
    first_not_finite(u64 *__restrict__ found, const float *__restrict__ x, u64 count)
{
    for_each_place(count, is_aligned(x), FirstNotFinite{found, x});
}
