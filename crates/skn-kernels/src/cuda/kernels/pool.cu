// What probing takes of activations, where they lie: sums, ranges, counts, bits, means and maxima. See
// src/reductions.rs.
//
// grid: (texts, ceil(width / 128)), block: 128, shared: 0 bytes
//     for pool_rows
// grid: (ceil(width / 128), groups, slices), block: 128, shared: 0 bytes
//     for add_statistics, add_moments, add_shares, count_above, count_bins
// grid: (ceil(width / 1024), min(groups * rows, 65535)), block: 128, shared: 0 bytes
//     for pack_above
// grid: min(groups * rows, 65535), block: 128, shared: 0 bytes
//     for pick_columns
// grid: ceil(rows / 128), block: 128, shared: 0 bytes
//     for row_norms
//
// Rows come in groups, as many in each: row i of group g is row[g * rows + i] of x [.., width], or row
// g * rows + i where `row` is null. A block takes 128 columns of one slice of a group's rows. What blocks
// have is put together by atomic operations on integers, which give the same in any order; so any number of
// slices does.
//
// Every kernel looks whether what it reads can be taken. If a number can't, it lowers wrong [1] to `mark`.
#ifndef SKN_JOINED
#include "common.cuh"
#endif

// An exponent of all ones is infinity or NaN.
__device__ inline bool is_finite(float number)
{
    return (__float_as_uint(number) & 0x7f800000) != 0x7f800000;
}

// Mean and maximum of each column over the rows first[t] .. first[t] + count[t] of x [.., width] for each
// text t: mean and max [texts, width]. As the CPU does it: summed in f64, ascending, divided in f64, then
// rounded; of 0 and -0 the first one is the maximum. Either may be null. Texts without rows have no mean
// (NaN) and the maximum -infinity.
extern "C" __global__ void __launch_bounds__(128)
    pool_rows(float *__restrict__ mean, float *__restrict__ max, u64 *__restrict__ wrong,
              const float *__restrict__ x, const u32 *__restrict__ first, const u32 *__restrict__ count,
              u32 texts, u32 width, u64 mark)
{
    const u32 text = blockIdx.x, column = blockIdx.y * blockDim.x + threadIdx.x;
    if (text >= texts || column >= width)
        return;
    const u32 rows = count[text];
    const float *number = x + u64(first[text]) * width + column;
    double sum = 0.0;
    float most = -infinity();
    bool fit = true;
    SKN_UNROLL_BY(8)
    for (u32 row = 0; row < rows; row++) {
        const float value = number[u64(row) * width];
        fit = fit && is_finite(value);
        sum += double(value);
        most = value > most ? value : most;
    }
    if (!fit)
        atomicMin(wrong, mark);
    const u64 place = u64(text) * width + column;
    if (mean != nullptr)
        mean[place] = float(sum / double(rows));
    if (max != nullptr)
        max[place] = most;
}

// The rows begin .. end of a group, for a block of a grid (columns, groups, slices).
struct Slice {
    u32 begin, end;
    // The group's first place in arrays [groups, rows] and [groups, width].
    u64 in_rows, in_columns;
};

__device__ inline Slice slice_of_block(u32 rows, u32 width)
{
    const u32 length = (rows - 1) / gridDim.z + 1;
    const u64 begin = u64(blockIdx.z) * length;
    const u32 first = begin < rows ? u32(begin) : rows;
    return {first, first + min(rows - first, length), u64(blockIdx.y) * rows, u64(blockIdx.y) * width};
}

// Row `i` of all groups' rows.
__device__ inline const float *row_at(const float *x, const u32 *row, u64 i, u32 width)
{
    return x + (row == nullptr ? i : u64(row[i])) * width;
}

// So many rows of a slice are read before the first is looked at.
constexpr u32 ROWS_AHEAD = 8;

// Calls use(i, number) for the numbers of a column in the rows of a slice, ascending.
template <class Use>
__device__ inline void each_row(const Slice &slice, const float *x, const u32 *row, u32 width, u32 column,
                                const Use &use)
{
    for (u32 first = slice.begin; first < slice.end; first += ROWS_AHEAD) {
        float values[ROWS_AHEAD];
        SKN_UNROLL
        for (u32 i = 0; i < ROWS_AHEAD; i++)
            // Behind the end the last one again, which nobody uses: a load that depends on nothing.
            values[i] = row_at(x, row, slice.in_rows + min(first + i, slice.end - 1), width)[column];
        SKN_UNROLL
        for (u32 i = 0; i < ROWS_AHEAD; i++)
            if (first + i < slice.end)
                use(first + i, values[i]);
    }
}

// A sum in 128 bits, negative ones as two's complement.
struct Wide {
    u64 low, high;

    __device__ void add(u64 of_low, u64 of_high)
    {
        low += of_low;
        high += of_high + (low < of_low ? 1 : 0);
    }

    // Adds it to a sum that others add to. Bits 0 to 31, 32 to 63 and the others have a counter each,
    // `places` apart, of which none overflows before 2^32 additions: so what is carried is nobody's
    // business here.
    __device__ void add_to(u64 *counters, u64 places) const
    {
        atomicAdd(counters, low & 0xffffffffu);
        atomicAdd(counters + places, low >> 32);
        atomicAdd(counters + 2 * places, high);
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

// A number's place among all that are not NaN: of two the lower number has the lower one; -0 is below 0.
__device__ inline u32 in_order(float number)
{
    const u32 bits = __float_as_uint(number);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Takes rows for statistics, as skn-stats does: adds each column to sums, its squares to squares, both
// [3, groups, width] (see Wide::add_to), lowers minimum and raises maximum [groups, width], which are in
// in_order's numbers. Each of the four may be null. Of a number that is none, or beyond MAX_ACTIVATION,
// nothing is added: that is wrong.
extern "C" __global__ void __launch_bounds__(128, 12)
    add_statistics(u64 *__restrict__ sums, u64 *__restrict__ squares, u32 *__restrict__ minimum,
                   u32 *__restrict__ maximum, u64 *__restrict__ wrong, const float *__restrict__ x,
                   const u32 *__restrict__ row, u32 rows, u32 width, u64 mark)
{
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    const Slice slice = slice_of_block(rows, width);
    Wide sum = {}, square = {};
    float least = infinity(), most = -infinity();
    bool fit = true;
    each_row(slice, x, row, width, column, [&](u32, float value) {
        // NaN is not below it either.
        const bool fits = fabsf(value) <= MAX_ACTIVATION;
        fit = fit && fits;
        if (sums != nullptr)
            add_number(sum, fits ? value : 0.0f);
        if (squares != nullptr)
            add_square(square, fits ? value : 0.0f);
        least = fits && value < least ? value : least;
        most = fits && value > most ? value : most;
    });
    if (!fit)
        atomicMin(wrong, mark);
    const u64 place = slice.in_columns + column, places = u64(gridDim.y) * width;
    if (sums != nullptr)
        sum.add_to(sums + place, places);
    if (squares != nullptr)
        square.add_to(squares + place, places);
    if (minimum != nullptr)
        atomicMin(minimum + place, in_order(least));
    if (maximum != nullptr)
        atomicMax(maximum + place, in_order(most));
}

// fired [classes, groups, width] is added 1 for each row and each column whose number is above its threshold
// [groups, width], in the class of the row: label [rows], of row i of any group. A thread adds what it has
// when the class changes, so rows are best in the order of their classes. What is not finite is wrong.
extern "C" __global__ void __launch_bounds__(128, 12)
    count_above(u64 *__restrict__ fired, u64 *__restrict__ wrong, const float *__restrict__ x,
                const float *__restrict__ threshold, const u32 *__restrict__ label,
                const u32 *__restrict__ row, u32 rows, u32 width, u64 mark)
{
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    const Slice slice = slice_of_block(rows, width);
    const u64 place = slice.in_columns + column, places = u64(gridDim.y) * width;
    const float least = threshold[place];
    u32 of_label = label[min(slice.begin, rows - 1)], count = 0;
    bool fit = true;
    each_row(slice, x, row, width, column, [&](u32 i, float value) {
        fit = fit && is_finite(value);
        const u32 next = label[i];
        if (next != of_label) {
            atomicAdd(fired + of_label * places + place, u64(count));
            of_label = next;
            count = 0;
        }
        count += value > least;
    });
    atomicAdd(fired + of_label * places + place, u64(count));
    if (!fit)
        atomicMin(wrong, mark);
}

// For each row of all groups a bit for each column: whether its number is above its threshold
// [groups, width]. bits [groups * rows, ceil(width / 8)], the lowest bit of a byte first; what is behind the
// last column is 0. What is not finite is wrong.
extern "C" __global__ void __launch_bounds__(128)
    pack_above(unsigned char *__restrict__ bits, u64 *__restrict__ wrong, const float *__restrict__ x,
               const float *__restrict__ threshold, const u32 *__restrict__ row, u32 groups, u32 rows,
               u32 width, u64 mark)
{
    const u32 bytes = (width - 1) / 8 + 1, byte = blockIdx.x * blockDim.x + threadIdx.x;
    if (byte >= bytes)
        return;
    const u32 first = 8 * byte, count = min(width - first, 8u);
    const u64 all = u64(groups) * rows;
    bool fit = true;
    for (u64 i = blockIdx.y; i < all; i += gridDim.y) {
        const float *numbers = row_at(x, row, i, width) + first;
        const float *thresholds = threshold + i / rows * width + first;
        u32 above = 0;
        for (u32 bit = 0; bit < count; bit++) {
            fit = fit && is_finite(numbers[bit]);
            above |= u32(numbers[bit] > thresholds[bit]) << bit;
        }
        bits[i * bytes + byte] = static_cast<unsigned char>(above);
    }
    if (!fit)
        atomicMin(wrong, mark);
}

// Takes rows for sums by class: adds each column to sums [3, classes, groups, width], to those of the class of
// its row, label [rows], of row i of any group; to products [3, groups, width] after it was multiplied with the
// row's factor [rows] and rounded; its square to squares, of the same shape (see Wide::add_to). Without labels
// all rows are of class 0; products, with their factors, and squares may be null. Of a number that is none, or
// beyond MAX_ACTIVATION, itself or multiplied, nothing is added: that is wrong. A thread adds what it has when
// the class changes.
extern "C" __global__ void __launch_bounds__(128, 8)
    add_moments(u64 *__restrict__ sums, u64 *__restrict__ products, u64 *__restrict__ squares,
                u64 *__restrict__ wrong, const float *__restrict__ x, const float *__restrict__ factor,
                const u32 *__restrict__ label, const u32 *__restrict__ row, u32 classes, u32 rows, u32 width,
                u64 mark)
{
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    const Slice slice = slice_of_block(rows, width);
    const u64 place = slice.in_columns + column, places = u64(gridDim.y) * width;
    u32 of_label = label == nullptr ? 0 : label[min(slice.begin, rows - 1)];
    Wide sum = {}, product = {}, square = {};
    bool fit = true;
    each_row(slice, x, row, width, column, [&](u32 i, float value) {
        const u32 next = label == nullptr ? 0 : label[i];
        if (next != of_label) {
            sum.add_to(sums + of_label * places + place, classes * places);
            sum = {};
            of_label = next;
        }
        const bool fits = fabsf(value) <= MAX_ACTIVATION;
        fit = fit && fits;
        const float number = fits ? value : 0.0f;
        add_number(sum, number);
        if (squares != nullptr)
            add_square(square, number);
        if (products != nullptr) {
            const float multiplied = number * factor[i];
            const bool product_fits = fabsf(multiplied) <= MAX_ACTIVATION;
            fit = fit && product_fits;
            add_number(product, product_fits ? multiplied : 0.0f);
        }
    });
    sum.add_to(sums + of_label * places + place, classes * places);
    if (products != nullptr)
        product.add_to(products + place, places);
    if (squares != nullptr)
        square.add_to(squares + place, places);
    if (!fit)
        atomicMin(wrong, mark);
}

// Bins of a histogram: one below the least number that is expected, one above the greatest, and so many on each
// side of the mean.
constexpr u32 BINS_OF_SIDE = 15, BINS = 2 * BINS_OF_SIDE + 2;

// Where the bins of a column lie: `below` is the bins in 1 below the mean, `above` the part of the way above it
// that 1 is.
struct Ends {
    float least, mean, most, below, above;

    // As skn-probing has it, to the last bit: below the mean bins of one width, above it the n-th ends at
    // (n / 15)^2 of the way.
    __device__ u32 bin(float value) const
    {
        const float side = float(BINS_OF_SIDE), last = side - 1.0f;
        const float low = fminf((value - least) * below, last);
        const float way = fmaxf((value - mean) * above, 0.0f);
        const float high = fminf(sqrtf(way) * side, last) + side;
        const float inner = 1.0f + (value < mean ? low : high);
        const float number = value > most ? float(BINS - 1) : (value < least ? 0.0f : inner);
        // Without what is behind its point, give or take a last digit at whole numbers: numbers from 2^23 on are 1 apart.
        return __float_as_uint(fmaxf(number - 0.499999f, 0.0f) + 8388608.0f) % BINS;
    }
};

// counts [groups, width, classes, BINS] is added 1 for each row and each column in the bin of its number, by the
// ends [5, groups, width] of the column, in the class of the row: label [rows], of row i of any group. What is
// not finite is wrong.
extern "C" __global__ void __launch_bounds__(128, 8)
    count_bins(u32 *__restrict__ counts, u64 *__restrict__ wrong, const float *__restrict__ x,
               const float *__restrict__ ends, const u32 *__restrict__ label, const u32 *__restrict__ row,
               u32 classes, u32 rows, u32 width, u64 mark)
{
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    const Slice slice = slice_of_block(rows, width);
    const u64 place = slice.in_columns + column, places = u64(gridDim.y) * width;
    const Ends of_column = {ends[place], ends[places + place], ends[2 * places + place],
                            ends[3 * places + place], ends[4 * places + place]};
    u32 *of_place = counts + place * classes * BINS;
    bool fit = true;
    each_row(slice, x, row, width, column, [&](u32 i, float value) {
        fit = fit && is_finite(value);
        atomicAdd(of_place + u64(label[i]) * BINS + of_column.bin(value), 1u);
    });
    if (!fit)
        atomicMin(wrong, mark);
}

// out [all, columns] = those columns of the rows of all groups. A number of these rows that is not finite is
// wrong, in whichever column.
extern "C" __global__ void __launch_bounds__(128)
    pick_columns(float *__restrict__ out, u64 *__restrict__ wrong, const float *__restrict__ x,
                 const u32 *__restrict__ column, const u32 *__restrict__ row, u32 columns, u64 all, u32 width,
                 u64 mark)
{
    bool fit = true;
    for (u64 i = blockIdx.x; i < all; i += gridDim.x) {
        const float *numbers = row_at(x, row, i, width);
        for (u32 place = threadIdx.x; place < width; place += blockDim.x)
            fit = fit && is_finite(numbers[place]);
        for (u32 place = threadIdx.x; place < columns; place += blockDim.x)
            out[i * columns + place] = numbers[column[place]];
    }
    if (!fit)
        atomicMin(wrong, mark);
}

// norms [rows] = the Euclidean norms of the rows of x [rows, width]. As the CPU does it: summed in f64 in the
// order of the columns, then rounded.
extern "C" __global__ void __launch_bounds__(128)
    row_norms(float *__restrict__ norms, const float *__restrict__ x, u32 rows, u32 width)
{
    const u32 row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows)
        return;
    const float *numbers = x + u64(row) * width;
    double sum = 0.0;
    SKN_UNROLL_BY(8)
    for (u32 column = 0; column < width; column++)
        sum += double(numbers[column]) * double(numbers[column]);
    norms[row] = float(sqrt(sum));
}

// Takes rows for sums of shares: adds |number| * factor [width] of its column / norm of its row of x to sums [3,
// groups, width] (see Wide::add_to), each step rounded to f32. norm has one for each row of x; where it is not
// above 0, or null, shares are 0. Of a number that is none, or a share that is none or beyond MAX_ACTIVATION,
// nothing is added: that is wrong.
extern "C" __global__ void __launch_bounds__(128, 8)
    add_shares(u64 *__restrict__ sums, u64 *__restrict__ wrong, const float *__restrict__ x,
               const float *__restrict__ factor, const float *__restrict__ norm, const u32 *__restrict__ row,
               u32 rows, u32 width, u64 mark)
{
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width)
        return;
    const Slice slice = slice_of_block(rows, width);
    const float of_column = factor[column];
    Wide sum = {};
    bool fit = true;
    each_row(slice, x, row, width, column, [&](u32 i, float value) {
        const u64 place = slice.in_rows + i;
        const float of_row = norm == nullptr ? 0.0f : norm[row == nullptr ? place : u64(row[place])];
        const float share = of_row > 0.0f ? fabsf(value) * of_column / of_row : 0.0f;
        const bool fits = is_finite(value) && fabsf(share) <= MAX_ACTIVATION;
        fit = fit && fits;
        add_number(sum, fits ? share : 0.0f);
    });
    sum.add_to(sums + slice.in_columns + column, u64(gridDim.y) * width);
    if (!fit)
        atomicMin(wrong, mark);
}
