// Operations on each number by itself, sums over columns, dropout.
//
// grid: min(ceil(count / 1024), 65535), block: 256, shared: 0 bytes
//     for bias_activation, activation_gradient, gated, gated_gradient
// grid: ceil(columns / 8), block: 256, shared: 0 bytes
//     for column_sums
// grid: ceil(rows / 8), block: 256, shared: keys ? 16 * (width / 16 + 2) : 0 bytes
//     for dropped
#ifndef SKN_JOINED
#include "common.cuh"
#endif

enum Activation : u32 { IDENTITY, GELU, GELU_TANH, RELU, SILU };

// 1 / (1 + e^-x).
__device__ inline float logistic(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

// P(X <= x) for a standard normal X.
__device__ inline float normal_distribution(float x)
{
    return 0.5f * (1.0f + erff(x * 0.70710678f));
}

// For u = sqrt(2 / pi) (x + 0.044715 x^3): 2 u, whose logistic is (1 + tanh u) / 2.
__device__ inline float gelu_tanh_argument(float x)
{
    return 1.595769f * x * fmaf(0.044715f, x * x, 1.0f);
}

__device__ inline float activated(u32 activation, float x)
{
    switch (activation) {
    case GELU:
        return x * normal_distribution(x);
    case GELU_TANH:
        return x * logistic(gelu_tanh_argument(x));
    case RELU:
        // Not fmaxf, which would turn what is not a number into 0 and hide it.
        return x < 0.0f ? 0.0f : x;
    case SILU:
        return x * logistic(x);
    default:
        return x;
    }
}

// The gradient times the derivative of the activation at x.
__device__ inline float differentiated(u32 activation, float x, float gradient)
{
    switch (activation) {
    case GELU: {
        const float density = 0.3989423f * expf(-0.5f * x * x);
        return gradient * fmaf(x, density, normal_distribution(x));
    }
    case GELU_TANH: {
        const float share = logistic(gelu_tanh_argument(x));
        const float slope = 1.595769f * fmaf(3.0f * 0.044715f, x * x, 1.0f);
        return gradient * (share * fmaf(x * slope, 1.0f - share, 1.0f));
    }
    case RELU:
        return x > 0.0f ? gradient : 0.0f;
    case SILU: {
        const float share = logistic(x);
        return gradient * (share * fmaf(x, 1.0f - share, 1.0f));
    }
    default:
        return gradient;
    }
}

struct BiasActivation {
    Result out;
    float *kept;
    const float *product, *bias;
    u32 columns, activation;

    template <int COUNT> __device__ void at(u64 place) const
    {
        // Four places are of one row: then their number divides `columns`. Division of 64 bits takes long.
        const u32 column = place >> 32 == 0 ? u32(place) % columns : u32(place % columns);
        Few<COUNT> sum = load<COUNT>(product + place);
        const Few<COUNT> added = load<COUNT>(bias + column);
        SKN_UNROLL
        for (int i = 0; i < COUNT; i++)
            sum.of[i] += added.of[i];
        if (kept != nullptr)
            store(kept + place, sum);
        SKN_UNROLL
        for (int i = 0; i < COUNT; i++)
            sum.of[i] = activated(activation, sum.of[i]);
        out.store(place, sum);
    }
};

// kept = product + bias of the column, out = activation(kept), or rounded to bf16 where out is null; product,
// kept and out [count / columns, columns], bias [columns]. kept may be null.
extern "C" __global__ void __launch_bounds__(256)
    bias_activation(float *__restrict__ out, u16 *__restrict__ rounded, float *__restrict__ kept,
                    const float *__restrict__ product, const float *__restrict__ bias, u64 count, u32 columns,
                    u32 activation)
{
    const Result result = {out, rounded};
    const bool aligned = columns % 4 == 0 && result.is_aligned() && is_aligned(kept) && is_aligned(product) &&
                         is_aligned(bias);
    for_each_place(count, aligned, BiasActivation{result, kept, product, bias, columns, activation});
}

struct ActivationGradient {
    float *out;
    const float *input, *gradient;
    u32 activation;

    template <int COUNT> __device__ void at(u64 place) const
    {
        const Few<COUNT> x = load<COUNT>(input + place);
        Few<COUNT> value = load<COUNT>(gradient + place);
        SKN_UNROLL
        for (int i = 0; i < COUNT; i++)
            value.of[i] = differentiated(activation, x.of[i], value.of[i]);
        store(out + place, value);
    }
};

// out = gradient * activation'(input), all [count].
extern "C" __global__ void __launch_bounds__(256)
    activation_gradient(float *__restrict__ out, const float *__restrict__ input,
                        const float *__restrict__ gradient, u64 count, u32 activation)
{
    const bool aligned = is_aligned(out) && is_aligned(input) && is_aligned(gradient);
    for_each_place(count, aligned, ActivationGradient{out, input, gradient, activation});
}

struct Gated {
    Result out;
    const float *gate, *up;
    u32 activation;

    template <int COUNT> __device__ void at(u64 place) const
    {
        Few<COUNT> value = load<COUNT>(gate + place);
        const Few<COUNT> factor = load<COUNT>(up + place);
        SKN_UNROLL
        for (int i = 0; i < COUNT; i++)
            value.of[i] = activated(activation, value.of[i]) * factor.of[i];
        out.store(place, value);
    }
};

// out = activation(gate) * up, or rounded to bf16 where out is null; all [count].
extern "C" __global__ void __launch_bounds__(256)
    gated(float *__restrict__ out, u16 *__restrict__ rounded, const float *__restrict__ gate,
          const float *__restrict__ up, u64 count, u32 activation)
{
    const Result result = {out, rounded};
    const bool aligned = result.is_aligned() && is_aligned(gate) && is_aligned(up);
    for_each_place(count, aligned, Gated{result, gate, up, activation});
}

struct GatedGradient {
    float *of_gate, *of_up;
    const float *gate, *up, *gradient;
    u32 activation;

    template <int COUNT> __device__ void at(u64 place) const
    {
        const Few<COUNT> x = load<COUNT>(gate + place), g = load<COUNT>(gradient + place);
        if (of_gate != nullptr) {
            Few<COUNT> value = load<COUNT>(up + place);
            SKN_UNROLL
            for (int i = 0; i < COUNT; i++)
                value.of[i] = differentiated(activation, x.of[i], g.of[i] * value.of[i]);
            store(of_gate + place, value);
        }
        if (of_up != nullptr) {
            Few<COUNT> value;
            SKN_UNROLL
            for (int i = 0; i < COUNT; i++)
                value.of[i] = activated(activation, x.of[i]) * g.of[i];
            store(of_up + place, value);
        }
    }
};

// of_gate = gradient * up * activation'(gate), of_up = gradient * activation(gate), all [count]. Either may
// be null.
extern "C" __global__ void __launch_bounds__(256)
    gated_gradient(float *__restrict__ of_gate, float *__restrict__ of_up, const float *__restrict__ gate,
                   const float *__restrict__ up, const float *__restrict__ gradient, u64 count,
                   u32 activation)
{
    const bool aligned = is_aligned(of_gate) && is_aligned(of_up) && is_aligned(gate) && is_aligned(up) &&
                         is_aligned(gradient);
    for_each_place(count, aligned, GatedGradient{of_gate, of_up, gate, up, gradient, activation});
}

// out [columns] = the sums over the rows of x [rows, columns].
extern "C" __global__ void __launch_bounds__(256)
    column_sums(float *__restrict__ out, const float *__restrict__ x, u32 rows, u32 columns)
{
    const Few<1> sums = column_sums_of_block<1>(
        rows, columns, [&](u32 row, u32 column) { return Few<1>{{x[u64(row) * columns + column]}}; });
    const u32 column = column_of_thread(columns);
    if (column < columns)
        out[column] = sums.of[0];
}

struct DroppedRow {
    float *out;
    const float *x;
    RowFactors factors;
    u32 width;

    template <int HELD> __device__ void of() const
    {
        auto row = lane_row<HELD>(x, width);
        if (factors.any)
            row.change(out, [&](u32 column, float number) { return number * factors.of(column); });
        row.write(out);
    }
};

// out = x times its factors of dropout, both [rows, width].
extern "C" __global__ void __launch_bounds__(256, 2)
    dropped(float *__restrict__ out, const float *__restrict__ x, SKN_DROP, u32 rows, u32 width)
{
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    const RowFactors factors = row_factors(keys, sequence, position, threshold, scale, row, width);
    const u64 start = u64(row) * width;
    by_width(width, DroppedRow{out + start, x + start, factors, width});
}
