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

// A row that may be a sum: x times its factors of dropout, and the residual if there is one.
struct SummedRow {
    const float *x, *residual;
    RowFactors factors;
    u32 width;

    // What is not held of it is written to `to`. A step for each part: it would be a branch in each column,
    // which would wait for one column's numbers before it asks for the next one's.
    template <int HELD> __device__ LaneRow<HELD> row(float *to) const
    {
        auto row = lane_row<HELD>(x, width);
        if (factors.any)
            row.change(to, [&](u32 column, float number) { return number * factors.of(column); });
        if (residual != nullptr)
            row.change(to, [&](u32 column, float number) { return number + residual[column]; });
        return row;
    }
};

__device__ inline SummedRow summed_row(const float *x, const float *residual, const RowFactors &factors,
                                       u64 start, u32 width)
{
    return {x + start, residual == nullptr ? nullptr : residual + start, factors, width};
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
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        auto row = summed.row<HELD>(out);
        const Moments moments = moments_of(row, epsilon);
        row.change(out, [&](u32 column, float number) {
            return (number - moments.mean) * moments.scale * weight[column] + bias[column];
        });
        row.write(out);
    }
};

// With s = x after dropout + residual, m and v the mean and the variance of its row: out = (s - m) / sqrt(v +
// epsilon) * weight + bias. x, residual and out [rows, width], weight and bias [width]. residual may be null.
extern "C" __global__ void __launch_bounds__(256, 3)
    layer_norm(float *__restrict__ out, const float *__restrict__ x, const float *__restrict__ residual,
               const float *__restrict__ weight, const float *__restrict__ bias, SKN_DROP, u32 rows, u32 width, float epsilon)
{
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    const RowFactors factors = row_factors(keys, sequence, position, threshold, scale, row, width);
    const u64 start = u64(row) * width;
    by_width(width,
             LayerNorm{out + start, summed_row(x, residual, factors, start, width), weight, bias, epsilon});
}

struct LayerNormGradient {
    float *of_sum, *of_x;
    SummedRow summed;
    const float *weight, *gradient;
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        auto row = summed.row<HELD>(of_sum);
        const Moments moments = moments_of(row, epsilon);
        const auto normal = [&](float number) { return (number - moments.mean) * moments.scale; };
        float total = 0.0f, along = 0.0f;
        row.each([&](u32 column, float number) {
            const float weighted = gradient[column] * weight[column];
            total += weighted;
            along += weighted * normal(number);
        });
        const float mean = warp_sum(total) / float(row.width), product = warp_sum(along) / float(row.width);
        const float *again = read_again(gradient), *weight_again = read_again(weight);
        row.change(of_sum, [&](u32 column, float number) {
            return moments.scale * (again[column] * weight_again[column] - mean - normal(number) * product);
        });
        row.write(of_sum);
        if (of_x == nullptr)
            return;
        if (summed.factors.any)
            row.change(of_x, [&](u32 column, float number) { return number * summed.factors.of(column); });
        row.write(of_x);
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
    const u32 row = row_of_warp();
    if (row >= rows)
        return;
    const RowFactors factors = row_factors(keys, sequence, position, threshold, scale, row, width);
    const u64 start = u64(row) * width;
    by_width(width, LayerNormGradient{of_sum + start, of_x == nullptr ? nullptr : of_x + start,
                                      summed_row(x, residual, factors, start, width), weight,
                                      gradient + start, epsilon});
}

struct LayerNormMoments {
    float *moments;
    const float *x;
    u32 width;
    float epsilon;

    template <int HELD> __device__ void of() const
    {
        const auto row = lane_row<HELD>(x, width);
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
        auto row = lane_row<HELD>(x, width);
        const float scale = rms_scale_of(row, epsilon);
        row.change(out, [&](u32 column, float number) { return number * scale * weight[column]; });
        row.write(out);
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
        auto row = lane_row<HELD>(x, width);
        const float scale = rms_scale_of(row, epsilon);
        const float mean = row.mean(
            [&](u32 column, float number) { return gradient[column] * weight[column] * (number * scale); });
        const float *again = read_again(gradient), *weight_again = read_again(weight);
        row.change(of_x, [&](u32 column, float number) {
            return scale * (again[column] * weight_again[column] - number * scale * mean);
        });
        row.write(of_x);
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
        const auto row = lane_row<HELD>(x, width);
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
