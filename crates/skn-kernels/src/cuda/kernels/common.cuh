// What the kernels share: numbers of a fixed width, sums over a warp, four numbers at a time, the masks of
// dropout.
//
// The files are joined to one text for NVRTC, this one first, with SKN_JOINED defined; no header of the host
// is there. tests/host plays the same files on the host.
//
// Compile with --fmad=false and without fast math. Where a product is added without a rounding of its own it
// is written as fmaf. So a card rounds as the CPU does, but for erff, expf, logf and tanhf. Every sum has an
// order that depends on its own length alone.
//
// All matrices are row-major without gaps. Pointers need the alignment of one element; where four can be read
// at once is looked up by the kernels.
#ifndef SKN_COMMON
#define SKN_COMMON

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// tests/host has its own, since a host's compiler knows neither.
#ifndef SKN_HOST
#define SKN_PRAGMA(text) _Pragma(#text)
#define SKN_UNROLL SKN_PRAGMA(unroll)
#define SKN_UNROLL_BY(count) SKN_PRAGMA(unroll count)
#define SKN_DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]
#endif

// Dropout of rows: number j of the row at position p of its sequence is number p * width + j of the sequence.
#define SKN_DROP                                                                                      \
    const u32 *__restrict__ keys, const u32 *__restrict__ sequence, const u32 *__restrict__ position, \
        u32 threshold, float scale

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

__device__ inline float infinity()
{
    return __int_as_float(0x7f800000);
}

// The sum of what the lanes of a warp have, in all of them: a tree, whose sums are the same from both sides.
__device__ inline float warp_sum(float value)
{
    for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

// Some numbers that are read and written together.
template <int COUNT> struct Few {
    float of[COUNT];
};
using Quad = Few<4>;

__device__ inline bool is_aligned(const void *pointer)
{
    return (reinterpret_cast<u64>(pointer) & 15) == 0;
}

// The numbers from `from` on; four need 16-byte alignment.
template <int COUNT> __device__ inline Few<COUNT> load(const float *from)
{
    static_assert(COUNT == 1 || COUNT == 4, "one number or four");
    if constexpr (COUNT == 1) {
        return {{*from}};
    } else {
        const float4 quad = *reinterpret_cast<const float4 *>(from);
        return {{quad.x, quad.y, quad.z, quad.w}};
    }
}

template <int COUNT> __device__ inline void store(float *to, const Few<COUNT> &few)
{
    static_assert(COUNT == 1 || COUNT == 4, "one number or four");
    if constexpr (COUNT == 1)
        *to = few.of[0];
    else
        *reinterpret_cast<float4 *>(to) = make_float4(few.of[0], few.of[1], few.of[2], few.of[3]);
}

// The bits of a number rounded to bf16, of two as near the even one. What is no number stays one.
__device__ inline u16 bits_of_bf16(float number)
{
    const u32 bits = __float_as_uint(number);
    const bool is_number = (bits & 0x7fffffff) <= 0x7f800000;
    return u16((is_number ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000) >> 16);
}

// Writes a number as it is, or rounded.
__device__ inline void put(float *to, float number)
{
    *to = number;
}

__device__ inline void put(u16 *to, float number)
{
    *to = bits_of_bf16(number);
}

// Where a result is written: as it is, or rounded to bf16. The other one is null.
struct Result {
    float *whole;
    u16 *rounded;

    __device__ bool is_aligned() const
    {
        return ::is_aligned(whole) && ::is_aligned(rounded);
    }

    // The numbers from `place` on; four need 16-byte alignment of the whole.
    template <int COUNT> __device__ void store(u64 place, const Few<COUNT> &few) const
    {
        if (rounded == nullptr) {
            ::store(whole + place, few);
        } else if constexpr (COUNT == 1) {
            put(rounded + place, few.of[0]);
        } else {
            u64 all = 0;
            SKN_UNROLL
            for (int i = 0; i < COUNT; i++)
                all |= u64(bits_of_bf16(few.of[i])) << (16 * i);
            *reinterpret_cast<u64 *>(rounded + place) = all;
        }
    }
};

// Gives the places 0 .. count to the threads of the grid: `work.at<4>(place)` for four of them where
// `aligned`, `work.at<1>(place)` for one. Neighbours go to neighbours.
template <class Work> __device__ inline void for_each_place(u64 count, bool aligned, const Work &work)
{
    const u64 thread = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    const u64 threads = u64(gridDim.x) * blockDim.x;
    const u64 quads = aligned ? count / 4 : 0;
    for (u64 quad = thread; quad < quads; quad += threads)
        work.template at<4>(4 * quad);
    for (u64 place = 4 * quads + thread; place < count; place += threads)
        work.template at<1>(place);
}

// The same array, of which the compiler does not know that. What is read again is so read from the near
// cache, not kept in registers from the first time: that would leave too few warps to a multiprocessor. And
// what was written to an array of the kernel's own is not read by a load that takes it for constant.
__device__ inline const float *read_again(const float *array)
{
#ifndef SKN_HOST
    asm volatile("" : "+l"(array) : : "memory");
#endif
    return array;
}

// What a lane of a warp has to do of the warp's row: columns lane, lane + 32, ... So neighbours read
// neighbours, and sums have an order that depends on the width alone. A row of up to 32 * HELD columns stays
// in registers; with HELD 0 it is read from memory each time, and what is made of it is written there.
template <int HELD> struct LaneRow {
    const float *numbers;
    u32 width, lane;
    float held[HELD > 0 ? HELD : 1];

    // Calls use(column, number) for each, ascending.
    template <class Use> __device__ void each(const Use &use) const
    {
        if constexpr (HELD > 0) {
            SKN_UNROLL
            for (u32 i = 0; i < HELD; i++)
                if (lane + WARP * i < width)
                    use(lane + WARP * i, held[i]);
        } else {
            const u32 steps = lane < width ? (width - lane - 1) / WARP + 1 : 0;
            SKN_UNROLL_BY(4)
            for (u32 step = 0; step < steps; step++)
                use(lane + WARP * step, numbers[lane + WARP * step]);
        }
    }

    // Makes change(column, number) of each. What is not held is written to `to`, which may be where it is.
    template <class Change> __device__ void change(float *to, const Change &change)
    {
        if constexpr (HELD > 0) {
            SKN_UNROLL
            for (u32 i = 0; i < HELD; i++)
                if (lane + WARP * i < width)
                    held[i] = change(lane + WARP * i, held[i]);
        } else {
            each([&](u32 column, float number) { to[column] = change(column, number); });
            numbers = read_again(to);
        }
    }

    // Writes the row to `to`, if it isn't there.
    __device__ void write(float *to) const
    {
        if (HELD > 0 || numbers != to)
            each([&](u32 column, float number) { to[column] = number; });
    }

    // The mean of of(column, number) over the whole row, in all lanes.
    template <class Of> __device__ float mean(const Of &of) const
    {
        float total = 0.0f;
        each([&](u32 column, float number) { total += of(column, number); });
        return warp_sum(total) / float(width);
    }
};

template <int HELD> __device__ inline LaneRow<HELD> lane_row(const float *numbers, u32 width)
{
    LaneRow<HELD> row = {numbers, width, threadIdx.x % WARP, {}};
    if constexpr (HELD > 0) {
        SKN_UNROLL
        for (u32 i = 0; i < HELD; i++)
            if (row.lane + WARP * i < width)
                row.held[i] = numbers[row.lane + WARP * i];
    }
    return row;
}

// Calls work.of<HELD>() with the smallest HELD for which a row of `width` stays in registers, 0 if it can't.
// All of them give the same bits.
template <class Work> __device__ inline void by_width(u32 width, const Work &work)
{
    if (width <= 4 * WARP)
        work.template of<4>();
    else if (width <= 32 * WARP)
        work.template of<32>();
    else
        work.template of<0>();
}

// The row of the warp among those of the grid.
__device__ inline u32 row_of_warp()
{
    return blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}

// A block sums 8 columns: so a warp reads whole sectors of memory, and a matrix of a few hundred columns is
// enough for all of a card.
constexpr u32 COLUMNS_OF_BLOCK = 8;
constexpr u32 SLICES = 32;

// The sums over rows of term(row, column), an array of COUNT, by the 256 threads of a block: each adds up
// every 32nd row, ascending, then a tree. Thread i < 8 has those of column 8 * blockIdx.x + i; the others
// have parts.
template <int COUNT, class Term>
__device__ inline Few<COUNT> column_sums_of_block(u32 rows, u32 columns, const Term &term)
{
    __shared__ float parts[COUNT][SLICES][COLUMNS_OF_BLOCK];
    const u32 place = threadIdx.x % COLUMNS_OF_BLOCK, slice = threadIdx.x / COLUMNS_OF_BLOCK;
    const u32 column = blockIdx.x * COLUMNS_OF_BLOCK + place;
    Few<COUNT> sums = {};
    if (column < columns && slice < rows) {
        // A loop that counts by 1 reads several rows before it adds them up.
        const u32 steps = (rows - slice - 1) / SLICES + 1;
        SKN_UNROLL_BY(8)
        for (u32 step = 0; step < steps; step++) {
            const Few<COUNT> terms = term(slice + step * SLICES, column);
            for (int i = 0; i < COUNT; i++)
                sums.of[i] += terms.of[i];
        }
    }
    for (int i = 0; i < COUNT; i++)
        parts[i][slice][place] = sums.of[i];
    __syncthreads();
    for (u32 half = SLICES / 2; half > 0; half /= 2) {
        if (slice < half)
            for (int i = 0; i < COUNT; i++)
                parts[i][slice][place] += parts[i][slice + half][place];
        __syncthreads();
    }
    for (int i = 0; i < COUNT; i++)
        sums.of[i] = parts[i][slice][place];
    return sums;
}

// The column whose sums a thread has after column_sums_of_block, or `columns` if it has none.
__device__ inline u32 column_of_thread(u32 columns)
{
    const u32 column = blockIdx.x * COLUMNS_OF_BLOCK + threadIdx.x;
    return threadIdx.x < COLUMNS_OF_BLOCK && column < columns ? column : columns;
}

__device__ inline u32 rotated(u32 word, int bits)
{
    return (word << bits) | (word >> (32 - bits));
}

__device__ inline void quarter_round(u32 &a, u32 &b, u32 &c, u32 &d)
{
    a += b;
    d = rotated(d ^ a, 16);
    c += d;
    b = rotated(b ^ c, 12);
    a += b;
    d = rotated(d ^ a, 8);
    c += d;
    b = rotated(b ^ c, 7);
}

// Which of the 16 words of a block of a key's ChaCha8 stream (Bernstein, 2008; 64-bit counter, stream 0) are
// at least `threshold`: bit i for word i.
__device__ inline u32 words_kept(const u32 *key, u64 block, u32 threshold)
{
    const u32 first[16] = {0x61707865, 0x3320646e,       0x79622d32, 0x6b206574, key[0], key[1],
                           key[2],     key[3],           key[4],     key[5],     key[6], key[7],
                           u32(block), u32(block >> 32), 0,          0};
    u32 word[16];
    SKN_UNROLL
    for (int i = 0; i < 16; i++)
        word[i] = first[i];
    SKN_UNROLL
    for (int twice = 0; twice < 4; twice++) {
        quarter_round(word[0], word[4], word[8], word[12]);
        quarter_round(word[1], word[5], word[9], word[13]);
        quarter_round(word[2], word[6], word[10], word[14]);
        quarter_round(word[3], word[7], word[11], word[15]);
        quarter_round(word[0], word[5], word[10], word[15]);
        quarter_round(word[1], word[6], word[11], word[12]);
        quarter_round(word[2], word[7], word[8], word[13]);
        quarter_round(word[3], word[4], word[9], word[14]);
    }
    u32 kept = 0;
    SKN_UNROLL
    for (int i = 0; i < 16; i++)
        kept |= u32(word[i] + first[i] >= threshold) << i;
    return kept;
}

// What the numbers of a warp's row are multiplied with, if there is dropout: 0 or `scale`. A bit for each
// number stands in the block's shared memory, from `start` on those of the block of the stream in which the
// row begins.
//
// No pointer to it is kept: NVRTC 12.6 and 13.0 take a pointer to shared memory that stands in a structure
// for one to global memory. What is compiled of these files must have no cvta.shared, which makes such a
// pointer.
struct RowFactors {
    bool any;
    u32 start, skipped;
    float scale;

    __device__ float of(u32 column) const
    {
        SKN_DYNAMIC_SHARED(u16, kept_of_rows);
        const u32 place = column + skipped;
        return (kept_of_rows[start + place / 16] >> (place % 16)) & 1 ? scale : 0.0f;
    }
};

// The factors of a warp's row; all its lanes make them. If there are keys, the block's shared memory has
// width / 16 + 2 places of two bytes for each of its warps.
__device__ inline RowFactors row_factors(SKN_DROP, u32 row, u32 width)
{
    SKN_DYNAMIC_SHARED(u16, kept_of_rows);
    if (keys == nullptr)
        return {false, 0, 0, 1.0f};
    const u64 first = u64(position[row]) * width;
    const u32 skipped = u32(first % 16), blocks = (skipped + width + 15) / 16;
    const u32 start = threadIdx.x / WARP * (width / 16 + 2);
    const u32 *key = keys + 8 * u64(sequence[row]);
    for (u32 block = threadIdx.x % WARP; block < blocks; block += WARP)
        kept_of_rows[start + block] = u16(words_kept(key, first / 16 + block, threshold));
    __syncwarp();
    return {true, start, skipped, scale};
}

#endif
