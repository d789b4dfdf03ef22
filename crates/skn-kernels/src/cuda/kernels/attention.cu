// Attention inside packed sequences, and its gradients, in f32 without atomics.
//
// A block of 128 threads, four warps, sees to a tile of rows of one head: of queries, or for the gradients of
// keys and values of keys. Each warp has a quarter of them. The rows of the other side come by in tiles of
// 32, which the block copies to shared memory. No score is kept: the gradients make them again from the
// logarithms of the sums (Dao et al., 2022, FlashAttention).
//
// Tiles that come by begin at the sequence's first key, or its first asked query, so that what is added up in
// which order does not depend on the tile that asks. A tile of which nobody sees anything is skipped, which
// changes no bit: it would add zeros. (An output is never -0, the one number that changes by adding 0.) What
// is not finite in a value or gradient reaches all rows of a tile, also those that don't see it: 0 *
// infinity.
//
// W is the smallest of 32, 64, 128, 256 that is no less than head_width, R the rows of a warp, so that a tile
// has 4 R rows.
//
// grid: (tiles of queries, heads), block: 128, shared: 4 * ((4 * R + 32) * (W + 4) + 128 * (R + 1)) bytes
//     for attention_W, R = W <= 128 ? 8 : 4
// grid: (tiles of queries, heads), block: 128, shared: 4 * ((8 * R + 32) * (W + 4) + 128 * (R + 1)) bytes
//     for attention_gradient_queries_W, R = W <= 64 ? 8 : 4
// grid: (tiles of keys, key_value_heads), block: 128,
//     shared: 4 * ((8 * R + (W <= 64 ? 64 : 32)) * (W + 4) + 128 * (R + 1) + 32) bytes
//     for attention_gradient_keys_W, R = W <= 64 ? 8 : 4
// grid: ceil(queries * heads / 8), block: 256, shared: 0 bytes
//     for attention_row_products
#ifndef SKN_JOINED
#include "common.cuh"
#endif

// starts [sequences + 1] rows of keys; asked [sequences + 1] indexes of queries; position [queries] of each
// query in its sequence, ascending within one; tiles [grid.x, 2] = the sequence, and the first query's index,
// or the first key's place in its sequence.
#define SKN_LIST                                                                                     \
    const u32 *__restrict__ starts, const u32 *__restrict__ asked, const u32 *__restrict__ position, \
        const u32 *__restrict__ tiles

// The products of queries and keys are scaled. soft_cap > 0 makes soft_cap * tanh(s / soft_cap) of such a
// score. A query at position p sees the keys p - before .. p + after that there are; 0xffffffff is all.
#define SKN_FORM \
    u32 heads, u32 key_value_heads, u32 head_width, float scale, float soft_cap, u32 before, u32 after

// Dropout of probabilities: that of head h between the query at position p and key j of n is number (p *
// heads + h) * n + j of the sequence with keys [sequences, 8]; null: none.
#define SKN_DROPA const u32 *__restrict__ keys, u32 threshold, float scale_of_kept

struct Form {
    u32 heads, key_value_heads, head_width;
    float scale, soft_cap;
    u32 before, after;
};

struct Lists {
    const u32 *starts, *asked, *position, *tiles;
};

struct Dropped {
    const u32 *keys;
    u32 threshold;
    float scale;
};

constexpr u32 WARPS = 4;
// Rows of a tile that comes by.
constexpr u32 TILE = 32;

// How the lanes of a warp share the products of its ROWS rows and a tile: a lane has the pairs of ROWS / 2
// rows (its half) and the two rows `place` and `place + 16` of the tile.
struct Lane {
    u32 half, place;
};

__device__ inline Lane this_lane()
{
    // Neighbours share a row of the tile, and every second lane those of the warp: then reading 16 bytes
    // takes no longer than it must.
    return {threadIdx.x % 2, threadIdx.x % WARP / 2};
}

// From one row of a tile in shared memory to the next: 4 more than a multiple of 32, so that 8 lanes that
// read 16 bytes each of as many rows meet in no bank.
template <int WIDTH> constexpr u32 STEP = WIDTH + 4;

// From the weights of one row of a warp to those of the next: so that both halves of the lanes write to other
// banks.
template <int ROWS> constexpr u32 WEIGHTS = TILE + TILE / ROWS;

// Which keys of a sequence a query sees.
struct Seen {
    u32 from, to;

    __device__ bool has(u32 key) const
    {
        return key >= from && key < to;
    }

    // Whether it sees some of the keys first .. first + count.
    __device__ bool meets(u32 first, u32 count) const
    {
        return from < first + count && to > first;
    }
};

__device__ inline Seen seen_by(u32 position, u32 keys, const Form &form)
{
    const u32 behind = keys - 1 - position;
    return {form.before < position ? position - form.before : 0,
            form.after < behind ? position + form.after + 1 : keys};
}

// Queries of a sequence: `count` from index `first` on.
struct Queries {
    const u32 *position;
    u32 first, count;

    __device__ Seen seen(u32 query, u32 keys, const Form &form) const
    {
        return query < count ? seen_by(position[first + query], keys, form) : Seen{0, 0};
    }

    // The keys from the first that one of the queries from .. to sees to the last, if these are there:
    // positions ascend.
    __device__ Seen seen_together(u32 from, u32 to, u32 keys, const Form &form) const
    {
        if (from >= count)
            return {0, 0};
        return {seen(from, keys, form).from, seen(min(to, count) - 1, keys, form).to};
    }

    // The first query for which is(what it sees) is true; it is true for all behind that one.
    template <class Is> __device__ u32 first_that(u32 keys, const Form &form, const Is &is) const
    {
        u32 from = 0, to = count;
        while (from < to) {
            const u32 middle = from + (to - from) / 2;
            if (is(seen(middle, keys, form)))
                to = middle;
            else
                from = middle + 1;
        }
        return from;
    }
};

// Copies a head of `there` rows, `step` apart, to a tile of ROWS rows; what is behind them, or behind the
// head's width, becomes 0.
template <int WIDTH, u32 ROWS>
__device__ inline void stage(float *tile, const float *rows, u32 there, u64 step, u32 head_width)
{
    const bool aligned = head_width % 4 == 0 && is_aligned(rows);
    constexpr u32 PIECES = ROWS * WIDTH / 4 / (WARPS * WARP);
    SKN_UNROLL_BY(4)
    for (u32 i = 0; i < PIECES; i++) {
        const u32 piece = i * WARPS * WARP + threadIdx.x;
        const u32 row = piece / (WIDTH / 4), column = piece % (WIDTH / 4) * 4;
        Quad quad = {};
        if (row < there && column < head_width) {
            const float *from = rows + row * step + column;
            if (aligned)
                quad = load<4>(from);
            else
                for (u32 j = 0; j < 4; j++)
                    quad.of[j] = column + j < head_width ? from[j] : 0.0f;
        }
        store(tile + row * STEP<WIDTH> + column, quad);
    }
}

// out[a][b] = the product of the lane's row a, `rows` being the first one, and the tile's row b * 16 + place.
template <int WIDTH, int ROWS>
__device__ inline void products(float (&out)[ROWS / 2][2], const float *rows, const float *tile,
                                u32 head_width)
{
    const Lane lane = this_lane();
    rows += lane.half * (ROWS / 2) * STEP<WIDTH>;
    tile += lane.place * STEP<WIDTH>;
    SKN_UNROLL
    for (u32 a = 0; a < ROWS / 2; a++)
        out[a][0] = out[a][1] = 0.0f;
    const u32 quads = (head_width + 3) / 4;
    SKN_UNROLL_BY(1)
    for (u32 quad = 0; quad < quads; quad++) {
        Quad left[ROWS / 2];
        SKN_UNROLL
        for (u32 a = 0; a < ROWS / 2; a++)
            left[a] = load<4>(rows + a * STEP<WIDTH>);
        const Quad right[2] = {load<4>(tile), load<4>(tile + 16 * STEP<WIDTH>)};
        rows += 4;
        tile += 4;
        SKN_UNROLL
        for (u32 i = 0; i < 4; i++) {
            SKN_UNROLL
            for (u32 a = 0; a < ROWS / 2; a++) {
                out[a][0] = fmaf(left[a].of[i], right[0].of[i], out[a][0]);
                out[a][1] = fmaf(left[a].of[i], right[1].of[i], out[a][1]);
            }
        }
    }
}

// Writes what a lane has of the weights [ROWS, 32] of a warp's rows and a tile.
template <int ROWS> __device__ inline void write_weights(float *weights, const float (&of)[ROWS / 2][2])
{
    const Lane lane = this_lane();
    SKN_UNROLL
    for (u32 a = 0; a < ROWS / 2; a++) {
        float *row = weights + (lane.half * (ROWS / 2) + a) * WEIGHTS<ROWS> + lane.place;
        row[0] = of[a][0];
        row[16] = of[a][1];
    }
}

// Adds the tile's rows, each as often as its weight says, to the sums of a warp's rows. A lane has the
// columns lane, lane + 32, ...
template <int WIDTH, int ROWS>
__device__ inline void accumulate(float (&sums)[ROWS][WIDTH / 32], const float *weights, const float *tile)
{
    tile += threadIdx.x % WARP;
    SKN_UNROLL_BY(1)
    for (u32 first = 0; first < TILE; first += 4) {
        Quad weight[ROWS];
        SKN_UNROLL
        for (u32 row = 0; row < ROWS; row++)
            weight[row] = load<4>(weights + row * WEIGHTS<ROWS> + first);
        SKN_UNROLL
        for (u32 i = 0; i < 4; i++) {
            SKN_UNROLL
            for (u32 c = 0; c < WIDTH / 32; c++) {
                const float value = tile[(first + i) * STEP<WIDTH> + c * WARP];
                SKN_UNROLL
                for (u32 row = 0; row < ROWS; row++)
                    sums[row][c] = fmaf(weight[row].of[i], value, sums[row][c]);
            }
        }
    }
}

template <int WIDTH, int ROWS> __device__ inline void clear(float (&sums)[ROWS][WIDTH / 32])
{
    SKN_UNROLL
    for (u32 row = 0; row < ROWS; row++) {
        SKN_UNROLL
        for (u32 c = 0; c < WIDTH / 32; c++)
            sums[row][c] = 0.0f;
    }
}

// Writes the sums of those of a warp's rows that are there, `to` being a head of the first one. Adding 0
// makes 0 of -0.
template <int WIDTH, int ROWS, class Number>
__device__ inline void write_sums(Number *to, const float (&sums)[ROWS][WIDTH / 32], u32 there, u64 step,
                                  u32 head_width)
{
    SKN_UNROLL
    for (u32 row = 0; row < ROWS; row++) {
        SKN_UNROLL
        for (u32 c = 0; c < WIDTH / 32; c++) {
            const u32 column = c * WARP + threadIdx.x % WARP;
            if (row < there && column < head_width)
                put(to + row * step + column, sums[row][c] + 0.0f);
        }
    }
}

// A score, and its derivative by the product of query and key.
struct Score {
    float value, slope;
};

__device__ inline Score score_of(float product, const Form &form)
{
    if (form.soft_cap > 0.0f) {
        const float share = tanhf(product * (form.scale / form.soft_cap));
        return {form.soft_cap * share, form.scale * (1.0f - share * share)};
    }
    return {product * form.scale, form.scale};
}

// Which of the 32 numbers from `first` on are kept. Four lanes make it together, who must agree about
// `first`; all lanes of a warp must come here.
__device__ inline u32 numbers_kept(const u32 *key, u64 first, u32 threshold)
{
    const u32 lane = threadIdx.x % WARP, part = lane % 4;
    const u32 own = part < 3 ? words_kept(key, first / 16 + part, threshold) : 0;
    u64 kept = 0;
    SKN_UNROLL
    for (u32 i = 0; i < 3; i++)
        kept |= u64(__shfl_sync(ALL_LANES, own, lane - part + i)) << (16 * i);
    return u32(kept >> (first % 16));
}

// The factors of dropout between a query and a tile of keys: a bit for each key. All kept without dropout,
// with the factor 1.
struct Factors {
    u32 kept;
    float scale;

    __device__ float of(u32 key) const
    {
        return kept >> key & 1 ? scale : 0.0f;
    }
};

// The number of the probability between a query's head and the sequence's first key.
__device__ inline u64 first_number(u32 position, u32 head, u32 keys, const Form &form)
{
    return (u64(position) * form.heads + head) * keys;
}

// For the rows of a lane the factors of a tile of keys, the warp's first query being `query`.
template <int ROWS>
__device__ inline void factors_of_rows(Factors (&factors)[ROWS / 2], const Dropped &dropped, u32 sequence,
                                       const Queries &queries, u32 query, u32 head, u32 keys, u32 first_key,
                                       const Form &form)
{
    SKN_UNROLL
    for (u32 a = 0; a < ROWS / 2; a++)
        factors[a] = {ALL_LANES, 1.0f};
    if (dropped.keys == nullptr)
        return;
    // Lanes 4 i .. 4 i + 3 make those of row i. Where there is none, those of another one, which nobody uses.
    const u32 own = min(query + threadIdx.x % WARP / 4, queries.count - 1);
    const u64 first = first_number(queries.position[queries.first + own], head, keys, form) + first_key;
    const u32 kept = numbers_kept(dropped.keys + 8 * u64(sequence), first, dropped.threshold);
    SKN_UNROLL
    for (u32 a = 0; a < ROWS / 2; a++)
        factors[a] = {__shfl_sync(ALL_LANES, kept, 4 * (this_lane().half * (ROWS / 2) + a)), dropped.scale};
}

// What the blocks of queries have in common: their tile, and how they come by the keys.
template <int ROWS> struct QueryTile {
    u32 sequence, head, start, keys, warp, own;
    Queries queries;
    // What the thread's query sees, for the first 4 * ROWS threads; then what those of the warp see together.
    Seen one, of_warp, of_block;
    u64 query_step, key_step, key_head;

    __device__ QueryTile(const Lists &lists, const Form &form)
    {
        sequence = lists.tiles[2 * blockIdx.x];
        head = blockIdx.y;
        start = lists.starts[sequence];
        keys = lists.starts[sequence + 1] - start;
        const u32 first = lists.tiles[2 * blockIdx.x + 1];
        queries = {lists.position, first, min(WARPS * ROWS, lists.asked[sequence + 1] - first)};
        warp = threadIdx.x / WARP;
        own = warp * ROWS;
        one = threadIdx.x < WARPS * ROWS ? queries.seen(threadIdx.x, keys, form) : Seen{0, 0};
        of_warp = queries.seen_together(own, own + ROWS, keys, form);
        of_block = queries.seen_together(0, WARPS * ROWS, keys, form);
        query_step = u64(form.heads) * form.head_width;
        key_step = u64(form.key_value_heads) * form.head_width;
        key_head = u64(head / (form.heads / form.key_value_heads)) * form.head_width;
    }

    // Where the head of a query of the tile is.
    __device__ u64 place_of(u32 query, const Form &form) const
    {
        return (u64(queries.first + query) * form.heads + head) * form.head_width;
    }

    // Where the head of a key is.
    __device__ u64 place_of_key(u32 key) const
    {
        return u64(start + key) * key_step + key_head;
    }

    // Of the warp's queries, how many there are.
    __device__ u32 there() const
    {
        return own < queries.count ? min(queries.count - own, u32(ROWS)) : 0;
    }
};

// out = softmax(scores) v, or rounded to bf16 where it is null, and log_sums = log(sum of exp(scores)), for each query and head. The softmax comes
// about as the keys do: of what has come by there is the highest score, and sums of exp(score - highest).
template <int WIDTH, int ROWS>
__device__ inline void attention_of(float *out, u16 *rounded, float *log_sums, const float *q, const float *k,
                                    const float *v, const Lists &lists, const Form &form,
                                    const Dropped &dropped)
{
    SKN_DYNAMIC_SHARED(float, tiles_of_block);
    const QueryTile<ROWS> my(lists, form);
    float *of_queries = tiles_of_block, *tile = of_queries + WARPS * ROWS * STEP<WIDTH>;
    float *weights = tile + TILE * STEP<WIDTH> + my.warp * ROWS * WEIGHTS<ROWS>;
    const u32 half = this_lane().half;

    Seen seen[ROWS / 2];
    float highest[ROWS / 2], total[ROWS / 2], sums[ROWS][WIDTH / 32];
    SKN_UNROLL
    for (u32 a = 0; a < ROWS / 2; a++) {
        seen[a] = my.queries.seen(my.own + half * (ROWS / 2) + a, my.keys, form);
        highest[a] = -infinity();
        total[a] = 0.0f;
    }
    clear<WIDTH, ROWS>(sums);
    stage<WIDTH, WARPS * ROWS>(of_queries, q + my.place_of(0, form), my.queries.count, my.query_step,
                               form.head_width);

    for (u32 first = my.of_block.from / TILE * TILE; first < my.of_block.to; first += TILE) {
        // Behind this everyone is done with the tile before.
        if (!__syncthreads_or(my.one.meets(first, TILE)))
            continue;
        const u32 there = min(my.keys - first, TILE);
        const bool works = my.of_warp.meets(first, TILE);
        stage<WIDTH, TILE>(tile, k + my.place_of_key(first), there, my.key_step, form.head_width);
        __syncthreads();
        if (works) {
            float of[ROWS / 2][2], fade[ROWS / 2];
            Factors factors[ROWS / 2];
            products<WIDTH, ROWS>(of, of_queries + my.own * STEP<WIDTH>, tile, form.head_width);
            factors_of_rows<ROWS>(factors, dropped, my.sequence, my.queries, my.own, my.head, my.keys, first,
                                  form);
            SKN_UNROLL
            for (u32 a = 0; a < ROWS / 2; a++) {
                float top = highest[a];
                SKN_UNROLL
                for (u32 b = 0; b < 2; b++) {
                    const u32 key = first + b * 16 + this_lane().place;
                    of[a][b] = seen[a].has(key) ? score_of(of[a][b], form).value : -infinity();
                    // Which NaN does not change: it stays in the score, and so in the sums.
                    top = fmaxf(top, of[a][b]);
                }
                for (int distance = 16; distance > 1; distance /= 2)
                    top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, distance));
                // Until there is a score above -infinity: infinity - infinity would be NaN.
                const float base = top == -infinity() ? 0.0f : top;
                fade[a] = expf(highest[a] - base);
                highest[a] = top;
                SKN_UNROLL
                for (u32 b = 0; b < 2; b++)
                    of[a][b] = expf(of[a][b] - base);
                total[a] = total[a] * fade[a] + (of[a][0] + of[a][1]);
                SKN_UNROLL
                for (u32 b = 0; b < 2; b++)
                    of[a][b] *= factors[a].of(b * 16 + this_lane().place);
            }
            write_weights<ROWS>(weights, of);
            SKN_UNROLL
            for (u32 row = 0; row < ROWS; row++) {
                const float factor = __shfl_sync(ALL_LANES, fade[row % (ROWS / 2)], row / (ROWS / 2));
                SKN_UNROLL
                for (u32 c = 0; c < WIDTH / 32; c++)
                    sums[row][c] *= factor;
            }
        }
        __syncthreads();
        stage<WIDTH, TILE>(tile, v + my.place_of_key(first), there, my.key_step, form.head_width);
        __syncthreads();
        if (works)
            accumulate<WIDTH, ROWS>(sums, weights, tile);
    }

    SKN_UNROLL
    for (u32 a = 0; a < ROWS / 2; a++) {
        for (int distance = 16; distance > 1; distance /= 2)
            total[a] += __shfl_xor_sync(ALL_LANES, total[a], distance);
        const u32 query = half * (ROWS / 2) + a;
        if (this_lane().place == 0 && query < my.there())
            log_sums[u64(my.queries.first + my.own + query) * form.heads + my.head] =
                highest[a] + logf(total[a]);
    }
    SKN_UNROLL
    for (u32 row = 0; row < ROWS; row++) {
        const float whole = __shfl_sync(ALL_LANES, total[row % (ROWS / 2)], row / (ROWS / 2));
        SKN_UNROLL
        for (u32 c = 0; c < WIDTH / 32; c++)
            sums[row][c] /= whole;
    }
    const u64 place = my.place_of(my.own, form);
    if (rounded == nullptr)
        write_sums<WIDTH, ROWS>(out + place, sums, my.there(), my.query_step, form.head_width);
    else
        write_sums<WIDTH, ROWS>(rounded + place, sums, my.there(), my.query_step, form.head_width);
}

// With p the probabilities, m their factors of dropout and g the gradient of the result, for each query and
// head: ds_j = p_j (m_j g . v_j - D) times the slope of the score, D = sum over i of p_i m_i g . v_i = out .
// g; of_q = sum over j of ds_j k_j.
template <int WIDTH, int ROWS>
__device__ inline void gradient_of_queries(float *of_q, const float *q, const float *k, const float *v,
                                           const float *gradient, const float *log_sums,
                                           const float *row_products, const Lists &lists, const Form &form,
                                           const Dropped &dropped)
{
    SKN_DYNAMIC_SHARED(float, tiles_of_block);
    const QueryTile<ROWS> my(lists, form);
    float *of_queries = tiles_of_block, *of_gradient = of_queries + WARPS * ROWS * STEP<WIDTH>;
    float *tile = of_gradient + WARPS * ROWS * STEP<WIDTH>;
    float *weights = tile + TILE * STEP<WIDTH> + my.warp * ROWS * WEIGHTS<ROWS>;
    const u32 half = this_lane().half;

    Seen seen[ROWS / 2];
    float log_sum[ROWS / 2], product[ROWS / 2], sums[ROWS][WIDTH / 32];
    SKN_UNROLL
    for (u32 a = 0; a < ROWS / 2; a++) {
        const u32 query = half * (ROWS / 2) + a;
        const u64 place = u64(my.queries.first + my.own + query) * form.heads + my.head;
        seen[a] = my.queries.seen(my.own + query, my.keys, form);
        log_sum[a] = query < my.there() ? log_sums[place] : 0.0f;
        product[a] = query < my.there() ? row_products[place] : 0.0f;
    }
    clear<WIDTH, ROWS>(sums);
    stage<WIDTH, WARPS * ROWS>(of_queries, q + my.place_of(0, form), my.queries.count, my.query_step,
                               form.head_width);
    stage<WIDTH, WARPS * ROWS>(of_gradient, gradient + my.place_of(0, form), my.queries.count, my.query_step,
                               form.head_width);

    for (u32 first = my.of_block.from / TILE * TILE; first < my.of_block.to; first += TILE) {
        // Behind this everyone is done with the tile before.
        if (!__syncthreads_or(my.one.meets(first, TILE)))
            continue;
        const u32 there = min(my.keys - first, TILE);
        const bool works = my.of_warp.meets(first, TILE);
        float of_p[ROWS / 2][2];
        stage<WIDTH, TILE>(tile, v + my.place_of_key(first), there, my.key_step, form.head_width);
        __syncthreads();
        if (works)
            products<WIDTH, ROWS>(of_p, of_gradient + my.own * STEP<WIDTH>, tile, form.head_width);
        __syncthreads();
        stage<WIDTH, TILE>(tile, k + my.place_of_key(first), there, my.key_step, form.head_width);
        __syncthreads();
        if (works) {
            float of[ROWS / 2][2];
            Factors factors[ROWS / 2];
            products<WIDTH, ROWS>(of, of_queries + my.own * STEP<WIDTH>, tile, form.head_width);
            factors_of_rows<ROWS>(factors, dropped, my.sequence, my.queries, my.own, my.head, my.keys, first,
                                  form);
            SKN_UNROLL
            for (u32 a = 0; a < ROWS / 2; a++) {
                SKN_UNROLL
                for (u32 b = 0; b < 2; b++) {
                    const u32 key = b * 16 + this_lane().place;
                    const Score score = score_of(of[a][b], form);
                    const float p = expf(score.value - log_sum[a]);
                    const float of_score = p * (factors[a].of(key) * of_p[a][b] - product[a]) * score.slope;
                    of[a][b] = seen[a].has(first + key) ? of_score : 0.0f;
                }
            }
            write_weights<ROWS>(weights, of);
            __syncwarp();
            accumulate<WIDTH, ROWS>(sums, weights, tile);
        }
    }
    write_sums<WIDTH, ROWS>(of_q + my.place_of(my.own, form), sums, my.there(), my.query_step,
                            form.head_width);
}

// As above, for each key: of_v = sum over queries of p m g, of_k = sum over queries of ds q; heads that share
// the key ascending, queries ascending.
template <int WIDTH, int ROWS>
__device__ inline void gradient_of_keys(float *of_k, float *of_v, const float *q, const float *k,
                                        const float *v, const float *gradient, const float *log_sums,
                                        const float *row_products, const Lists &lists, const Form &form,
                                        const Dropped &dropped)
{
    // Whether queries and their gradients are in shared memory together. Else they take turns, and queries
    // come twice.
    constexpr bool BOTH = WIDTH <= 64;
    SKN_DYNAMIC_SHARED(float, tiles_of_block);
    const u32 sequence = lists.tiles[2 * blockIdx.x], first_key = lists.tiles[2 * blockIdx.x + 1],
              key_head = blockIdx.y;
    const u32 start = lists.starts[sequence], keys = lists.starts[sequence + 1] - start;
    const u32 asked = lists.asked[sequence];
    const Queries asking = {lists.position, asked, lists.asked[sequence + 1] - asked};
    const u32 of_block = min(keys - first_key, WARPS * ROWS), group = form.heads / form.key_value_heads;
    const u32 warp = threadIdx.x / WARP, own = warp * ROWS,
              of_warp = own < of_block ? min(of_block - own, u32(ROWS)) : 0;
    const u64 query_step = u64(form.heads) * form.head_width,
              key_step = u64(form.key_value_heads) * form.head_width;
    const u64 place_of_key = u64(start + first_key) * key_step + u64(key_head) * form.head_width;

    float *of_keys = tiles_of_block, *of_values = of_keys + WARPS * ROWS * STEP<WIDTH>;
    float *tile = of_values + WARPS * ROWS * STEP<WIDTH>,
          *gradients = BOTH ? tile + TILE * STEP<WIDTH> : tile;
    float *weights = gradients + TILE * STEP<WIDTH> + warp * ROWS * WEIGHTS<ROWS>;
    // For each query of a tile the keys that are kept: numbers of the block's, whatever the warp.
    u32 *kept = reinterpret_cast<u32 *>(gradients + TILE * STEP<WIDTH> + WARPS * ROWS * WEIGHTS<ROWS>);

    float k_sums[ROWS][WIDTH / 32], v_sums[ROWS][WIDTH / 32];
    clear<WIDTH, ROWS>(k_sums);
    clear<WIDTH, ROWS>(v_sums);
    stage<WIDTH, WARPS * ROWS>(of_keys, k + place_of_key, of_block, key_step, form.head_width);
    stage<WIDTH, WARPS * ROWS>(of_values, v + place_of_key, of_block, key_step, form.head_width);

    // The queries that see one of the block's keys follow each other.
    const u32 from = asking.first_that(keys, form, [&](const Seen &seen) { return seen.to > first_key; });
    const u32 to =
        asking.first_that(keys, form, [&](const Seen &seen) { return seen.from >= first_key + of_block; });
    for (u32 head = key_head * group; head < (key_head + 1) * group; head++) {
        for (u32 first = from / TILE * TILE; first < to; first += TILE) {
            const Queries queries = {lists.position, asked + first, min(asking.count - first, TILE)};
            // Everyone is done with the tile before.
            __syncthreads();
            const bool works =
                of_warp > 0 && queries.seen_together(0, TILE, keys, form).meets(first_key + own, of_warp);
            const u64 place = (u64(queries.first) * form.heads + head) * form.head_width;
            stage<WIDTH, TILE>(tile, q + place, queries.count, query_step, form.head_width);
            if (BOTH)
                stage<WIDTH, TILE>(gradients, gradient + place, queries.count, query_step, form.head_width);
            if (dropped.keys != nullptr) {
                // Four threads for each query of the tile.
                const u32 query = min(threadIdx.x / 4, queries.count - 1);
                const u64 number =
                    first_number(queries.position[queries.first + query], head, keys, form) + first_key;
                const u32 found = numbers_kept(dropped.keys + 8 * u64(sequence), number, dropped.threshold);
                if (threadIdx.x % 4 == 0)
                    kept[threadIdx.x / 4] = found;
            }
            __syncthreads();

            // Of the lane's pairs of key and query: the probability, then the gradient of the score; the
            // slope of the score.
            float of[ROWS / 2][2], slope[ROWS / 2][2], product[2];
            bool is_seen[ROWS / 2][2];
            Factors factors[2];
            if (works) {
                products<WIDTH, ROWS>(of, of_keys + own * STEP<WIDTH>, tile, form.head_width);
                float used[ROWS / 2][2];
                SKN_UNROLL
                for (u32 b = 0; b < 2; b++) {
                    const u32 query = b * 16 + this_lane().place;
                    const bool is_there = query < queries.count;
                    const u64 number = u64(queries.first + query) * form.heads + head;
                    const float log_sum = is_there ? log_sums[number] : 0.0f;
                    const Seen seen = queries.seen(query, keys, form);
                    product[b] = is_there ? row_products[number] : 0.0f;
                    factors[b] = {dropped.keys == nullptr ? ALL_LANES : kept[query],
                                  dropped.keys == nullptr ? 1.0f : dropped.scale};
                    SKN_UNROLL
                    for (u32 a = 0; a < ROWS / 2; a++) {
                        const u32 key = own + this_lane().half * (ROWS / 2) + a;
                        const Score score = score_of(of[a][b], form);
                        is_seen[a][b] = seen.has(first_key + key);
                        of[a][b] = is_seen[a][b] ? expf(score.value - log_sum) : 0.0f;
                        slope[a][b] = score.slope;
                        used[a][b] = of[a][b] * factors[b].of(key);
                    }
                }
                write_weights<ROWS>(weights, used);
            }
            if (!BOTH) {
                __syncthreads();
                stage<WIDTH, TILE>(gradients, gradient + place, queries.count, query_step, form.head_width);
                __syncthreads();
            }
            if (works) {
                float of_p[ROWS / 2][2];
                __syncwarp();
                accumulate<WIDTH, ROWS>(v_sums, weights, gradients);
                products<WIDTH, ROWS>(of_p, of_values + own * STEP<WIDTH>, gradients, form.head_width);
                SKN_UNROLL
                for (u32 a = 0; a < ROWS / 2; a++) {
                    SKN_UNROLL
                    for (u32 b = 0; b < 2; b++) {
                        const u32 key = own + this_lane().half * (ROWS / 2) + a;
                        const float of_score =
                            of[a][b] * (factors[b].of(key) * of_p[a][b] - product[b]) * slope[a][b];
                        of[a][b] = is_seen[a][b] ? of_score : 0.0f;
                    }
                }
                // All lanes are done with the weights before.
                __syncwarp();
                write_weights<ROWS>(weights, of);
            }
            if (!BOTH) {
                __syncthreads();
                stage<WIDTH, TILE>(tile, q + place, queries.count, query_step, form.head_width);
                __syncthreads();
            }
            if (works) {
                __syncwarp();
                accumulate<WIDTH, ROWS>(k_sums, weights, tile);
            }
        }
    }
    const u64 place = place_of_key + own * key_step;
    write_sums<WIDTH, ROWS>(of_k + place, k_sums, of_warp, key_step, form.head_width);
    write_sums<WIDTH, ROWS>(of_v + place, v_sums, of_warp, key_step, form.head_width);
}

// One kernel for each width, so that narrow heads don't have to have the registers of wide ones. BLOCKS of
// them share a multiprocessor, as their registers and their shared memory allow on cards with 64 Ki
// registers.

// Scaled dot-product attention of several heads inside each sequence: out = softmax(scores) v after dropout,
// over the keys that each query sees. q and out [queries, heads * head_width]; k and v [rows, key_value_heads
// * head_width]; log_sums [queries, heads] = log(sum of exp(scores)).
#define SKN_ATTENTION(WIDTH, ROWS, BLOCKS)                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) attention_##WIDTH(                        \
        float *__restrict__ out, u16 *__restrict__ rounded, float *__restrict__ log_sums,               \
        const float *__restrict__ q, const float *__restrict__ k, const float *__restrict__ v,          \
        SKN_LIST, SKN_FORM, SKN_DROPA)                                                                  \
    {                                                                                                   \
        attention_of<WIDTH, ROWS>(out, rounded, log_sums, q, k, v, {starts, asked, position, tiles},    \
                                  {heads, key_value_heads, head_width, scale, soft_cap, before, after}, \
                                  {keys, threshold, scale_of_kept});                                    \
    }

// The gradient of q, from that of out: of_q and gradient [queries, heads * head_width], log_sums as attention
// gave them, products as attention_row_products did.
#define SKN_GRADIENT_QUERIES(WIDTH, ROWS, BLOCKS)                                                            \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) attention_gradient_queries_##WIDTH(            \
        float *__restrict__ of_q, const float *__restrict__ q, const float *__restrict__ k,                  \
        const float *__restrict__ v, const float *__restrict__ gradient, const float *__restrict__ log_sums, \
        const float *__restrict__ products, SKN_LIST, SKN_FORM, SKN_DROPA)                                   \
    {                                                                                                        \
        gradient_of_queries<WIDTH, ROWS>(                                                                    \
            of_q, q, k, v, gradient, log_sums, products, {starts, asked, position, tiles},                   \
            {heads, key_value_heads, head_width, scale, soft_cap, before, after},                            \
            {keys, threshold, scale_of_kept});                                                               \
    }

// The gradients of k and v: of_k and of_v [rows, key_value_heads * head_width]. Tiles of keys; those that
// nobody sees get zeros.
#define SKN_GRADIENT_KEYS(WIDTH, ROWS, BLOCKS)                                                              \
    extern "C" __global__ void __launch_bounds__(128, BLOCKS) attention_gradient_keys_##WIDTH(              \
        float *__restrict__ of_k, float *__restrict__ of_v, const float *__restrict__ q,                    \
        const float *__restrict__ k, const float *__restrict__ v, const float *__restrict__ gradient,       \
        const float *__restrict__ log_sums, const float *__restrict__ products, SKN_LIST, SKN_FORM,         \
        SKN_DROPA)                                                                                          \
    {                                                                                                       \
        gradient_of_keys<WIDTH, ROWS>(of_k, of_v, q, k, v, gradient, log_sums, products,                    \
                                      {starts, asked, position, tiles},                                     \
                                      {heads, key_value_heads, head_width, scale, soft_cap, before, after}, \
                                      {keys, threshold, scale_of_kept});                                    \
    }

// SKN_HEAD_WIDTH compiles those of one width alone: that takes a quarter of the time.
#if !defined(SKN_HEAD_WIDTH) || SKN_HEAD_WIDTH == 32
SKN_ATTENTION(32, 8, 5)
SKN_GRADIENT_QUERIES(32, 8, 4)
SKN_GRADIENT_KEYS(32, 8, 4)
#endif
#if !defined(SKN_HEAD_WIDTH) || SKN_HEAD_WIDTH == 64
SKN_ATTENTION(64, 8, 5)
SKN_GRADIENT_QUERIES(64, 8, 4)
SKN_GRADIENT_KEYS(64, 8, 4)
#endif
#if !defined(SKN_HEAD_WIDTH) || SKN_HEAD_WIDTH == 128
SKN_ATTENTION(128, 8, 4)
SKN_GRADIENT_QUERIES(128, 4, 5)
SKN_GRADIENT_KEYS(128, 4, 4)
#endif
#if !defined(SKN_HEAD_WIDTH) || SKN_HEAD_WIDTH == 256
SKN_ATTENTION(256, 4, 4)
SKN_GRADIENT_QUERIES(256, 4, 3)
SKN_GRADIENT_KEYS(256, 4, 3)
#endif

// products [queries, heads] = the dot products of out and gradient, both [queries, heads * head_width], of
// each head: a warp for each.
extern "C" __global__ void __launch_bounds__(256)
    attention_row_products(float *__restrict__ products, const float *__restrict__ out,
                           const float *__restrict__ gradient, u32 queries, u32 heads, u32 head_width)
{
    const u64 row = u64(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= u64(queries) * heads)
        return;
    float total = 0.0f;
    for (u32 column = threadIdx.x % WARP; column < head_width; column += WARP)
        total = fmaf(out[row * head_width + column], gradient[row * head_width + column], total);
    total = warp_sum(total);
    if (threadIdx.x % WARP == 0)
        products[row] = total;
}
