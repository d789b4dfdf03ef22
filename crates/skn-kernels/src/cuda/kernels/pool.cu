// What probing takes of activations. Nothing launches these yet: probing still reads activations on the host. They are tested
// (tests/played/statistics.rs).
//
// grid: (texts, ceil(width / 128)), block: 128, shared: 0 bytes
//     for pool_rows
// grid: min(ceil(count / 1024), 65535), block: 256, shared: 0 bytes
//     for first_not_finite
// grid: ceil(width / 128), block: 128, shared: 0 bytes
//     for add_statistics
// grid: (ceil(width / 128), min(rows, 65535)), block: 128, shared: 0 bytes
//     for count_above
// grid: (ceil(width / 1024), min(rows, 65535)), block: 128, shared: 0 bytes
//     for pack_above
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
        SKN_UNROLL
        for (int i = 0; i < COUNT; i++)
            // An exponent of all ones is infinity or NaN.
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

// A sum in 128 bits, negative ones as two's complement: [2, width], the low halves of all first.
struct Wide {
    u64 low, high;

    __device__ void add(u64 of_low, u64 of_high)
    {
        low += of_low;
        high += of_high + (low < of_low ? 1 : 0);
    }

    __device__ void load(const u64 *sums, u64 column, u64 width)
    {
        low = sums[column];
        high = sums[width + column];
    }

    __device__ void store(u64 *sums, u64 column, u64 width) const
    {
        sums[column] = low;
        sums[width + column] = high;
    }
};

constexpr double STEPS_PER_UNIT = 1099511627776.0;
constexpr double TWO_TO_64 = 18446744073709551616.0;
constexpr float MAX_ACTIVATION = 1048576.0f;

// Adds a number in steps of 2^-40, rounded to an integer, ties to even. The product is exact: f32 has 24
// significant bits, f64 53.
__device__ inline void add_number(Wide &sum, float number)
{
    const i64 steps = __double2ll_rn(double(number) * STEPS_PER_UNIT);
    sum.add(u64(steps), steps < 0 ? ~u64(0) : 0);
}

// Adds its square likewise. Up to 2^80 steps; from 2^53 on they are an integer, whose halves are exact.
__device__ inline void add_square(Wide &sum, float number)
{
    const double steps = double(number) * double(number) * STEPS_PER_UNIT;
    if (steps < TWO_TO_64 / 4) {
        sum.add(u64(__double2ll_rn(steps)), 0);
    } else {
        const u64 high = u64(steps / TWO_TO_64);
        sum.add(u64(steps - double(high) * TWO_TO_64), high);
    }
}

// Takes rows of x [.., width] for statistics, as skn-stats does: adds each column to sums, its squares to
// squares, both [2, width] (see Wide), and widens minimum and maximum [width], in which of 0 and -0 the first
// one stays. row [rows] says which rows; null: 0 .. rows. Each of the four may be null. Of a number that is
// none, or beyond MAX_ACTIVATION, nothing is added, and beyond [1] is lowered to its place among the rows *
// width.
extern "C" __global__ void __launch_bounds__(128)
    add_statistics(u64 *__restrict__ sums, u64 *__restrict__ squares, float *__restrict__ minimum,
                   float *__restrict__ maximum, u64 *__restrict__ beyond, const float *__restrict__ x,
                   const u32 *__restrict__ row, u32 rows, u32 width)
{
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    Wide sum = {}, square = {};
    float least = 0.0f, most = 0.0f;
    u32 first_beyond = rows;
    if (sums != nullptr)
        sum.load(sums, column, width);
    if (squares != nullptr)
        square.load(squares, column, width);
    if (minimum != nullptr)
        least = minimum[column];
    if (maximum != nullptr)
        most = maximum[column];
    SKN_UNROLL_BY(8)
    for (u32 i = 0; i < rows; i++) {
        const float value = x[u64(row == nullptr ? i : row[i]) * width + column];
        // NaN is not below it either.
        const bool fits = fabsf(value) <= MAX_ACTIVATION;
        first_beyond = fits ? first_beyond : min(first_beyond, i);
        if (sums != nullptr)
            add_number(sum, fits ? value : 0.0f);
        if (squares != nullptr)
            add_square(square, fits ? value : 0.0f);
        least = fits && value < least ? value : least;
        most = fits && value > most ? value : most;
    }
    if (first_beyond < rows)
        atomicMin(beyond, u64(first_beyond) * width + column);
    if (sums != nullptr)
        sum.store(sums, column, width);
    if (squares != nullptr)
        square.store(squares, column, width);
    if (minimum != nullptr)
        minimum[column] = least;
    if (maximum != nullptr)
        maximum[column] = most;
}

// fired [classes, width] is added 1 for each row of x [.., width] and each column whose number is above its
// threshold [width], in the class of the row: label [rows]. row as for add_statistics. Atomic sums of
// integers, which are the same in any order.
extern "C" __global__ void __launch_bounds__(128)
    count_above(u64 *__restrict__ fired, const float *__restrict__ x, const float *__restrict__ threshold,
                const u32 *__restrict__ label, const u32 *__restrict__ row, u32 rows, u32 width)
{
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    for (u64 i = blockIdx.y; i < rows; i += gridDim.y)
        if (x[u64(row == nullptr ? i : row[i]) * width + column] > threshold[column])
            atomicAdd(fired + u64(label[i]) * width + column, u64(1));
}

// For each row of x [.., width] a bit for each column: whether its number is above its threshold [width].
// bits [rows, ceil(width / 8)], the lowest bit of a byte first; what is behind the last column is 0. row as
// for add_statistics.
extern "C" __global__ void __launch_bounds__(128)
    pack_above(unsigned char *__restrict__ bits, const float *__restrict__ x,
               const float *__restrict__ threshold, const u32 *__restrict__ row, u32 rows, u32 width)
{
    const u32 bytes = (width - 1) / 8 + 1, byte = blockIdx.x * blockDim.x + threadIdx.x;
    if (byte >= bytes)
        return;
    const u32 first = 8 * byte, count = min(width - first, 8u);
    for (u64 i = blockIdx.y; i < rows; i += gridDim.y) {
        const float *numbers = x + u64(row == nullptr ? i : row[i]) * width + first;
        u32 above = 0;
        for (u32 bit = 0; bit < count; bit++)
            above |= u32(numbers[bit] > threshold[first + bit]) << bit;
        bits[i * bytes + byte] = static_cast<unsigned char>(above);
    }
}
