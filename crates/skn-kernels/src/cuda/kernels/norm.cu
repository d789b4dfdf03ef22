// Normalisation of rows, each by a warp.
//
// grid: ceil(rows / 8), block: 256, shared: keys ? 16 * (width / 16 + 2) : 0 bytes
//     for layer_norm, layer_norm_gradient
// grid: ceil(rows / 8), block: 256, shared: 0 bytes
//     for layer_norm_moments, rms_norm, rms_norm_gradient, rms_norm_scales
// grid: ceil(width / 8), block: 256, shared: 0 bytes
//     for layer_norm_parameter_gradients, rms_norm_weight_gradient
#ifndef SKN_JOINED
#include "common.cuh"
#endif

// Calls work.of<HELD>() with the smallest HELD for which a row of `width` stays in registers, 0 if
// it can't. All of them give the same bits.
template <class Work> __device__ inline void by_width(u32 width, const Work &work)
{
    if (width <= 4 * WARP)
        work.template of<4>();
    else if (width <= 32 * WARP)
        work.template of<32>();
    else
        work.template of<0>();
}

// A row that may be a sum: x times its factors, and the residual if there is one.
struct SummedRow {
    const float *x, *residual;
    RowFactors factors;

    __device__ float operator()(u32 column) const
    {
        const float own = x[column] * factors.of(column);
        return residual == nullptr ? own : own + residual[column];
    }
};

__device__ inline SummedRow summed_row(const float *x, const float *residual, const RowFactors &factors,
                                       u64 start)
{
    return {x + start, residual == nullptr ? nullptr : residual + start, factors};
}

// Mean and 1 / sqrt(variance + epsilon) of a row.
struct Moments {
    float mean, scale;
};

template <class Row> __device__ inline Moments moments_of(const Row &row, float epsilon)
{
    const float mean = row.mean([](u32, float number) { return number; });
    const float variance = row.mean([&](u32, float number) { return (number - mean) * (number - mean); });
    return {mean, 1.0f / sqrtf(variance + epsilon)};
}

struct LayerNorm {
    float *out;
    SummedRow summed;
    const float *weight, *bias;
    u32 width;
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        const auto row = lane_row<HELD>(width, summed);
        const Moments moments = moments_of(row, epsilon);
        row.each([&](u32 column, float number) {
            out[column] = (number - moments.mean) * moments.scale * weight[column] + bias[column];
        });
    }
};

// With s = x after dropout + residual, m and v the mean and the variance of its row: out = (s - m) / sqrt(v +
// epsilon) * weight + bias. x, residual and out [rows, width], weight and bias [width]. residual may be null.
extern "C" __global__ void __launch_bounds__(256)
    layer_norm(float *__restrict__ out, const float *__restrict__ x, const float *__restrict__ residual,
               const float *__restrict__ weight, const float *__restrict__ bias, SKN_DROP, u32 rows,
               u32 width, float epsilon)
{
    SKN_DYNAMIC_SHARED(u16, kept_of_rows);
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    const RowFactors factors =
        row_factors(kept_of_rows, keys, sequence, position, threshold, scale, row, width);
    const u64 start = u64(row) * width;
    by_width(width,
             LayerNorm{out + start, summed_row(x, residual, factors, start), weight, bias, width, epsilon});
}

struct LayerNormGradient {
    float *of_sum, *of_x;
    SummedRow summed;
    const float *weight, *gradient;
    u32 width;
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        const auto row = lane_row<HELD>(width, summed);
        const Moments moments = moments_of(row, epsilon);
        const auto normal = [&](float number) { return (number - moments.mean) * moments.scale; };
        float total = 0.0f, along = 0.0f;
        row.each([&](u32 column, float number) {
            const float weighted = gradient[column] * weight[column];
            total += weighted;
            along += weighted * normal(number);
        });
        const float mean = warp_sum(total) / float(width), product = warp_sum(along) / float(width);
        const float *again = read_again(gradient), *weight_again = read_again(weight);
        row.each([&](u32 column, float number) {
            const float weighted = again[column] * weight_again[column];
            const float of_number = moments.scale * (weighted - mean - normal(number) * product);
            of_sum[column] = of_number;
            if (of_x != nullptr)
                of_x[column] = of_number * summed.factors.of(column);
        });
    }
};

// With n the normalised row of s (see layer_norm), d = 1 / sqrt(v + epsilon) and g = gradient * weight:
// of_sum = d (g - mean(g) - n * mean(g n)), the gradient of s and of the residual; of_x = of_sum times x's
// factors of dropout. All [rows, width], weight [width]. of_x and residual may be null.
extern "C" __global__ void __launch_bounds__(256, 2)
    layer_norm_gradient(float *__restrict__ of_sum, float *__restrict__ of_x, const float *__restrict__ x,
                        const float *__restrict__ residual, const float *__restrict__ weight,
                        const float *__restrict__ gradient, SKN_DROP, u32 rows, u32 width, float epsilon)
{
    SKN_DYNAMIC_SHARED(u16, kept_of_rows);
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    const RowFactors factors =
        row_factors(kept_of_rows, keys, sequence, position, threshold, scale, row, width);
    const u64 start = u64(row) * width;
    by_width(width, LayerNormGradient{of_sum + start, of_x == nullptr ? nullptr : of_x + start,
                                      summed_row(x, residual, factors, start), weight, gradient + start,
                                      width, epsilon});
}

struct LayerNormMoments {
    float *moments;
    const float *x;
    u32 width;
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        const auto row = lane_row<HELD>(width, [this](u32 column) { return x[column]; });
        const Moments found = moments_of(row, epsilon);
        if (row.lane == 0) {
            moments[0] = found.mean;
            moments[1] = found.scale;
        }
    }
};

// moments [rows, 2] = mean and 1 / sqrt(variance + epsilon) of each row of x [rows, width]: for
// layer_norm_parameter_gradients.
extern "C" __global__ void __launch_bounds__(256)
    layer_norm_moments(float *__restrict__ moments, const float *__restrict__ x, u32 rows, u32 width,
                       float epsilon)
{
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    by_width(width, LayerNormMoments{moments + 2 * u64(row), x + u64(row) * width, width, epsilon});
}

// With n the normalised rows of x: of_weight = the sums over rows of gradient * n, of_bias = those of
// gradient. x and gradient [rows, width], moments [rows, 2] as layer_norm_moments makes them, of_weight and
// of_bias [width].
extern "C" __global__ void __launch_bounds__(256)
    layer_norm_parameter_gradients(float *__restrict__ of_weight, float *__restrict__ of_bias,
                                   const float *__restrict__ x, const float *__restrict__ gradient,
                                   const float *__restrict__ moments, u32 rows, u32 width)
{
    const Few<2> sums = column_sums_of_block<2>(rows, width, [&](u32 row, u32 column) {
        const u64 place = u64(row) * width + column;
        const float normal = (x[place] - moments[2 * u64(row)]) * moments[2 * u64(row) + 1];
        return Few<2>{{gradient[place] * normal, gradient[place]}};
    });
    const u32 column = column_of_thread(width);
    if (column < width) {
        of_weight[column] = sums.of[0];
        of_bias[column] = sums.of[1];
    }
}

// 1 / sqrt(mean of squares + epsilon) of a row.
template <class Row> __device__ inline float rms_scale_of(const Row &row, float epsilon)
{
    return 1.0f / sqrtf(row.mean([](u32, float number) { return number * number; }) + epsilon);
}

struct RmsNorm {
    float *out;
    const float *x, *weight;
    u32 width;
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        const auto row = lane_row<HELD>(width, [this](u32 column) { return x[column]; });
        const float scale = rms_scale_of(row, epsilon);
        row.each([&](u32 column, float number) { out[column] = number * scale * weight[column]; });
    }
};

// out = x / sqrt(mean(x^2) + epsilon) * weight for each row of x [rows, width]; weight [width].
extern "C" __global__ void __launch_bounds__(256)
    rms_norm(float *__restrict__ out, const float *__restrict__ x, const float *__restrict__ weight, u32 rows,
             u32 width, float epsilon)
{
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    const u64 start = u64(row) * width;
    by_width(width, RmsNorm{out + start, x + start, weight, width, epsilon});
}

struct RmsNormGradient {
    float *of_x;
    const float *x, *weight, *gradient;
    u32 width;
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        const auto row = lane_row<HELD>(width, [this](u32 column) { return x[column]; });
        const float scale = rms_scale_of(row, epsilon);
        const float mean = row.mean(
            [&](u32 column, float number) { return gradient[column] * weight[column] * (number * scale); });
        const float *again = read_again(gradient), *weight_again = read_again(weight);
        row.each([&](u32 column, float number) {
            of_x[column] = scale * (again[column] * weight_again[column] - number * scale * mean);
        });
    }
};

// With d = 1 / sqrt(mean(x^2) + epsilon), n = d x and g = gradient * weight: of_x = d (g - n * mean(g n)).
// All [rows, width], weight [width].
extern "C" __global__ void __launch_bounds__(256, 2)
    rms_norm_gradient(float *__restrict__ of_x, const float *__restrict__ x, const float *__restrict__ weight,
                      const float *__restrict__ gradient, u32 rows, u32 width, float epsilon)
{
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    const u64 start = u64(row) * width;
    by_width(width, RmsNormGradient{of_x + start, x + start, weight, gradient + start, width, epsilon});
}

struct RmsNormScales {
    float *scale;
    const float *x;
    u32 width;
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        const auto row = lane_row<HELD>(width, [this](u32 column) { return x[column]; });
        const float found = rms_scale_of(row, epsilon);
        if (row.lane == 0)
            *scale = found;
    }
};

// scales [rows] = 1 / sqrt(mean(x^2) + epsilon) of each row of x [rows, width]: for rms_norm_weight_gradient.
extern "C" __global__ void __launch_bounds__(256)
    rms_norm_scales(float *__restrict__ scales, const float *__restrict__ x, u32 rows, u32 width,
                    float epsilon)
{
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    by_width(width, RmsNormScales{scales + row, x + u64(row) * width, width, epsilon});
}

// of_weight [width] = the sums over rows of gradient * scale * x; x and gradient [rows, width], scales [rows]
// as rms_norm_scales makes them.
extern "C" __global__ void __launch_bounds__(256)
    rms_norm_weight_gradient(float *__restrict__ of_weight, const float *__restrict__ x,
                             const float *__restrict__ gradient, const float *__restrict__ scales, u32 rows,
                             u32 width)
{
    const Few<1> sums = column_sums_of_block<1>(rows, width, [&](u32 row, u32 column) {
        const u64 place = u64(row) * width + column;
        return Few<1>{{gradient[place] * (x[place] * scales[row])}};
    });
    const u32 column = column_of_thread(width);
    if (column < width)
        of_weight[column] = sums.of[0];
}
