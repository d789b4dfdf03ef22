// The kernels of src/cuda/kernels as functions of the host, and their table.
#pragma once

#include "host.h"

// PTX to play in place of these kernels: see ptx.py.
#ifdef SKN_PTX
#include "ptx.h"
#include SKN_PTX
#endif

#include "../../src/cuda/kernels/attention.cu"
#include "../../src/cuda/kernels/elementwise.cu"
#include "../../src/cuda/kernels/norm.cu"
#include "../../src/cuda/kernels/pool.cu"
#include "../../src/cuda/kernels/rotary.cu"

// Calls visit(name, whether it has barriers or shuffles, kernel) for each.
template <class Visit> void each_kernel(const Visit &visit)
{
#define WITH_BARRIERS(name) visit(#name, true, name)
#define WITHOUT_BARRIERS(name) visit(#name, false, name)
    WITHOUT_BARRIERS(bias_activation);
    WITHOUT_BARRIERS(activation_gradient);
    WITHOUT_BARRIERS(gated);
    WITHOUT_BARRIERS(gated_gradient);
    WITH_BARRIERS(column_sums);
    WITH_BARRIERS(dropped);
    WITH_BARRIERS(layer_norm);
    WITH_BARRIERS(layer_norm_gradient);
    WITH_BARRIERS(layer_norm_moments);
    WITH_BARRIERS(layer_norm_parameter_gradients);
    WITH_BARRIERS(rms_norm);
    WITH_BARRIERS(rms_norm_gradient);
    WITH_BARRIERS(rms_norm_scales);
    WITH_BARRIERS(rms_norm_weight_gradient);
    WITHOUT_BARRIERS(rotary);
    WITH_BARRIERS(attention_32);
    WITH_BARRIERS(attention_64);
    WITH_BARRIERS(attention_128);
    WITH_BARRIERS(attention_256);
    WITH_BARRIERS(attention_gradient_queries_32);
    WITH_BARRIERS(attention_gradient_queries_64);
    WITH_BARRIERS(attention_gradient_queries_128);
    WITH_BARRIERS(attention_gradient_queries_256);
    WITH_BARRIERS(attention_gradient_keys_32);
    WITH_BARRIERS(attention_gradient_keys_64);
    WITH_BARRIERS(attention_gradient_keys_128);
    WITH_BARRIERS(attention_gradient_keys_256);
    WITH_BARRIERS(attention_row_products);
    WITHOUT_BARRIERS(pool_rows);
    WITHOUT_BARRIERS(add_statistics);
    WITHOUT_BARRIERS(count_above);
    WITHOUT_BARRIERS(pack_above);
    WITHOUT_BARRIERS(add_moments);
    WITHOUT_BARRIERS(count_bins);
    WITHOUT_BARRIERS(pick_columns);
    WITHOUT_BARRIERS(row_norms);
    WITHOUT_BARRIERS(add_shares);
#undef WITH_BARRIERS
#undef WITHOUT_BARRIERS
}
