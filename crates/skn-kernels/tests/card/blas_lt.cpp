// Matrix products of the played card, libcublasLt.so.13: those that we ask cuBLASLt for, with a bias behind
// them or without. What cuBLASLt refuses is refused, and so is what it does not look at and fails by.
//
// An algorithm is one for the product that it was asked for, for matrices that begin where that was said, and
// for the workspace that it wants. A long inner side is summed up in three parts: in the workspace, and added
// in their order, or where that may be in place, and added in another order each time.
//
// SKN_CARD_WITHOUT_BIASES in the environment: no algorithm adds a bias.

#include "products.h"

#include <cublasLt.h>

#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <set>

namespace
{

struct Operation {
    cublasComputeType_t compute;
    int32_t turn_a = CUBLAS_OP_N, turn_b = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
};

struct Layout {
    cudaDataType kind;
    uint64_t rows, columns;
    int64_t leading;
};

// As they are if nobody says anything.
struct Preference {
    uint64_t workspace = 0;
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_MASK;
    uint32_t aligned_a = 256, aligned_b = 256, aligned_c = 256, aligned_d = 256;
};

// Whatever was made and not destroyed. Several threads may ask at once.
std::mutex making;
std::set<const void *> handles, operations, layouts, preferences;

template <class Handle> cublasStatus_t make(std::set<const void *> &all, Handle *out, void *made)
{
    const std::lock_guard<std::mutex> locked(making);
    all.insert(made);
    *out = reinterpret_cast<Handle>(made);
    return CUBLAS_STATUS_SUCCESS;
}

bool is_one(const std::set<const void *> &all, const void *one)
{
    const std::lock_guard<std::mutex> locked(making);
    return all.count(one) != 0;
}

template <class Made> cublasStatus_t destroy(std::set<const void *> &all, const char *what, const void *one)
{
    const std::lock_guard<std::mutex> locked(making);
    if (all.erase(one) == 0)
        return refuse(what, "expected what was made and not destroyed");
    delete static_cast<const Made *>(one);
    return CUBLAS_STATUS_SUCCESS;
}

// Sets an attribute to a value of its own size.
template <class T> cublasStatus_t set(const char *what, T &attribute, const void *value, size_t bytes)
{
    if (value == nullptr || bytes != sizeof(T))
        return refuse(what, std::to_string(bytes) + " bytes, expected " + std::to_string(sizeof(T)));
    memcpy(&attribute, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

// What a call describes.
struct Product {
    Operation operation;
    Layout a, b, c, d;
    int64_t m, n, k;

    bool has_bias() const
    {
        return operation.epilogue == CUBLASLT_EPILOGUE_BIAS;
    }
};

// An algorithm: what is in a cublasLtMatmulAlgo_t.
struct Algorithm {
    // Of the product that it is for.
    uint64_t product;
    uint32_t aligned_a, aligned_b, aligned_d, aligned_bias;
    uint64_t workspace;
    uint32_t parts, in_place;
    uint64_t rest[3];
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t), "an algorithm fills its place");

// An inner side that is summed up in parts, and in how many: of two the sum would be the same in each order.
constexpr int64_t LONG = 32;
constexpr uint32_t PARTS = 3;

// Numbers as one.
uint64_t mixed(std::initializer_list<uint64_t> numbers)
{
    uint64_t all = 14695981039346656037u;
    for (uint64_t number : numbers)
        all = (all ^ number) * 1099511628211u ^ (all >> 29);
    return all;
}

uint64_t number_of(const Product &product)
{
    const Operation &operation = product.operation;
    return mixed({uint64_t(product.m), uint64_t(product.n), uint64_t(product.k), uint64_t(operation.turn_a),
                  uint64_t(operation.turn_b), uint64_t(operation.compute), operation.epilogue,
                  uint64_t(product.a.kind), uint64_t(product.b.kind), uint64_t(product.d.kind),
                  uint64_t(product.a.leading), uint64_t(product.b.leading), uint64_t(product.d.leading)});
}

uint32_t aligned(const void *address)
{
    uint32_t by = 256;
    while (reinterpret_cast<uintptr_t>(address) % by != 0)
        by /= 2;
    return by;
}

// Reads what a call describes, if it fits together.
cublasStatus_t read(const char *what, cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                    cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                    cublasLtMatrixLayout_t d, Product &product)
{
    if (!is_one(handles, handle)) {
        played_card_tells(what, "expected a handle that was made");
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    if (!played_card_is_ready(what))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!is_one(operations, operation))
        return refuse(what, "expected an operation that was made");
    const auto layout = [](cublasLtMatrixLayout_t from, Layout &to) {
        if (!is_one(layouts, from))
            return false;
        to = *reinterpret_cast<const Layout *>(from);
        return true;
    };
    if (!layout(a, product.a) || !layout(b, product.b) || !layout(c, product.c) || !layout(d, product.d))
        return refuse(what, "expected layouts that were made");
    product.operation = *reinterpret_cast<const Operation *>(operation);
    const auto turned = [](const Layout &layout, int32_t turn) {
        return turn == CUBLAS_OP_T ? std::make_pair(layout.columns, layout.rows)
                                   : std::make_pair(layout.rows, layout.columns);
    };
    const auto of_a = turned(product.a, product.operation.turn_a);
    const auto of_b = turned(product.b, product.operation.turn_b);
    const auto sides = [](const std::pair<uint64_t, uint64_t> &of) {
        return std::to_string(of.first) + " x " + std::to_string(of.second);
    };
    const auto of_d = std::make_pair(product.d.rows, product.d.columns);
    if (of_a.second != of_b.first || of_a.first != of_d.first || of_b.second != of_d.second)
        return refuse(what, "sides " + sides(of_a) + ", " + sides(of_b) + " and " + sides(of_d) +
                                " don't fit together");
    if (product.c.rows != product.d.rows || product.c.columns != product.d.columns ||
        product.c.kind != product.d.kind)
        return refuse(what, "C is not as D is");
    for (const Layout *one : {&product.a, &product.b, &product.c, &product.d}) {
        if (one->rows == 0 || one->columns == 0 || one->rows > INT32_MAX || one->columns > INT32_MAX)
            return refuse(what, "a side of " + std::to_string(one->rows) + " or " +
                                    std::to_string(one->columns));
        if (one->leading < int64_t(one->rows))
            return refuse(what, "a leading dimension of " + std::to_string(one->leading) +
                                    ", expected at least " + std::to_string(one->rows));
    }
    product.m = int64_t(of_d.first), product.n = int64_t(of_d.second), product.k = int64_t(of_a.second);
    if (product.has_bias() && product.operation.bias == nullptr)
        return refuse(what, "a bias is to be added, and no pointer to it is set");
    if (product.operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT && !product.has_bias())
        return refuse(what, "epilogue " + std::to_string(product.operation.epilogue) + " is not played");
    const bool f32 = product.a.kind == CUDA_R_32F, bf16 = product.a.kind == CUDA_R_16BF;
    const bool is_known = product.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32
                              ? f32
                              : product.operation.compute == CUBLAS_COMPUTE_32F && (f32 || bf16);
    if (product.a.kind != product.b.kind || product.d.kind != CUDA_R_32F || !is_known) {
        played_card_tells(what, ("types " + std::to_string(product.a.kind) + ", " +
                                 std::to_string(product.b.kind) + " and " + std::to_string(product.d.kind) +
                                 " with compute type " + std::to_string(product.operation.compute) +
                                 " are not played")
                                    .c_str());
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

#define TRY(call)                                                                                            \
    if (const cublasStatus_t wrong = (call); wrong != CUBLAS_STATUS_SUCCESS)                                 \
    return wrong

// The parts of the sums, each by columns without gaps.
std::vector<std::vector<float>> parts_of(const Product &product, const Stored &stored_a,
                                         const Stored &stored_b, uint32_t parts)
{
    const bool tf32 = product.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const std::vector<float> a = taken<float>(stored_a, 0, product.operation.turn_a == CUBLAS_OP_T, tf32);
    const std::vector<float> b = taken<float>(stored_b, 0, product.operation.turn_b == CUBLAS_OP_T, tf32);
    std::vector<std::vector<float>> made(parts);
    for (uint32_t part = 0; part < parts; part++) {
        made[part].assign(size_t(product.m * product.n), 0.0f);
        const auto from = [&](uint32_t part) { return product.k * part / parts; };
        add_products(made[part].data(), a.data(), b.data(), product.m, product.n, product.k, from(part),
                     from(part + 1));
    }
    return made;
}

// A product whose description is in order, done now.
cublasStatus_t multiply(const char *what, const Product &product, const Algorithm &algorithm, float by,
                        float keeps, const void *a, const void *b, void *d, void *workspace,
                        cudaStream_t stream)
{
    const auto stored = [](const char *which, const void *from, const Layout &layout) {
        return Stored{which,          from, layout.kind, int64_t(layout.rows), int64_t(layout.columns),
                      layout.leading, 0};
    };
    const Stored of_a = stored("A", a, product.a), of_b = stored("B", b, product.b),
                 of_d = stored("D", d, product.d);
    const Stored of_bias = {"bias", product.operation.bias, CUDA_R_32F, product.m, 1, product.m, 0};
    const Stored of_workspace = {
        "workspace", workspace, CUDA_R_32F, int64_t(algorithm.workspace / sizeof(float)), 1, INT64_MAX, 0};
    if (meet(of_a, of_d, 1) || meet(of_b, of_d, 1) || (product.has_bias() && meet(of_bias, of_d, 1)))
        return refuse(what, "the result lies on a factor or on the bias");
    if (algorithm.workspace > 0)
        for (const Stored *other : {&of_a, &of_b, &of_d, &of_bias})
            if ((other != &of_bias || product.has_bias()) && meet(of_workspace, *other, 1))
                return refuse(what, "the workspace lies on what is read or written");
    // An algorithm takes it as it was told, several numbers at once, and does not look.
    TRY(expect(what, of_a, 1, stream, false, algorithm.aligned_a));
    TRY(expect(what, of_b, 1, stream, false, algorithm.aligned_b));
    TRY(expect(what, of_d, 1, stream, true, algorithm.aligned_d));
    if (product.has_bias())
        TRY(expect(what, of_bias, 1, stream, false, algorithm.aligned_bias));
    if (algorithm.workspace > 0)
        TRY(expect(what, of_workspace, 1, stream, true, 16));
    std::vector<std::vector<float>> parts = parts_of(product, of_a, of_b, algorithm.parts);
    static std::atomic<unsigned> calls{0};
    if (algorithm.in_place != 0)
        std::rotate(parts.begin(), parts.begin() + calls++ % algorithm.parts, parts.end());
    const size_t count = size_t(product.m * product.n);
    if (algorithm.workspace > 0)
        for (uint32_t part = 0; part < algorithm.parts; part++)
            memcpy(static_cast<float *>(workspace) + part * count, parts[part].data(), count * sizeof(float));
    const auto part_of = [&](uint32_t part) {
        return algorithm.workspace > 0 ? static_cast<const float *>(workspace) + part * count
                                       : parts[part].data();
    };
    const auto *bias = static_cast<const float *>(product.operation.bias);
    for (int64_t column = 0; column < product.n; column++)
        for (int64_t row = 0; row < product.m; row++) {
            const size_t place = size_t(column * product.m + row);
            float sum = part_of(0)[place];
            for (uint32_t part = 1; part < algorithm.parts; part++)
                sum += part_of(part)[place];
            float *to = static_cast<float *>(d) + column * product.d.leading + row;
            // What is there is not read where it counts for nothing: it may be no number.
            const float made = by * sum + (keeps != 0.0f ? keeps * *to : 0.0f);
            *to = product.has_bias() ? made + bias[row] : made;
        }
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    if (!played_card_is_ready("cublasLtCreate"))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    return make(handles, handle, new char);
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    return destroy<char>(handles, "cublasLtDestroy", handle);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    if (scale != CUDA_R_32F)
        return refuse("cublasLtMatmulDescCreate", "type " + std::to_string(scale) + " of alpha is not played");
    auto made = std::make_unique<Operation>();
    made->compute = compute;
    return make(operations, operation, made.release());
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    return destroy<Operation>(operations, "cublasLtMatmulDescDestroy", operation);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t bytes)
{
    const char *what = "cublasLtMatmulDescSetAttribute";
    if (!is_one(operations, operation))
        return refuse(what, "expected an operation that was made");
    auto *to = reinterpret_cast<Operation *>(operation);
    const auto turn = [&](int32_t &turn) {
        int32_t asked = 0;
        TRY(set(what, asked, value, bytes));
        if (asked != CUBLAS_OP_N && asked != CUBLAS_OP_T)
            return refuse(what, "a conjugate is not played");
        turn = asked;
        return CUBLAS_STATUS_SUCCESS;
    };
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return turn(to->turn_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return turn(to->turn_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(what, to->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(what, to->bias, value, bytes);
    default:
        return refuse(what, "attribute " + std::to_string(attribute) + " is not played");
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType kind, uint64_t rows,
                                          uint64_t columns, int64_t leading)
{
    auto made = std::make_unique<Layout>(Layout{kind, rows, columns, leading});
    return make(layouts, layout, made.release());
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    return destroy<Layout>(layouts, "cublasLtMatrixLayoutDestroy", layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    return make(preferences, preference, new Preference());
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    return destroy<Preference>(preferences, "cublasLtMatmulPreferenceDestroy", preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    const char *what = "cublasLtMatmulPreferenceSetAttribute";
    if (!is_one(preferences, preference))
        return refuse(what, "expected a preference that was made");
    auto *to = reinterpret_cast<Preference *>(preference);
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(what, to->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set(what, to->reduction, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return set(what, to->aligned_a, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return set(what, to->aligned_b, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return set(what, to->aligned_c, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(what, to->aligned_d, value, bytes);
    default:
        return refuse(what, "attribute " + std::to_string(attribute) + " is not played");
    }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int asked,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    const char *what = "cublasLtMatmulAlgoGetHeuristic";
    Product product;
    TRY(read(what, handle, operation, a, b, c, d, product));
    if (!is_one(preferences, preference))
        return refuse(what, "expected a preference that was made");
    if (asked < 1 || results == nullptr || count == nullptr)
        return refuse(what, "expected a place for an algorithm at least");
    const Preference &wanted = *reinterpret_cast<const Preference *>(preference);
    const size_t factor = bytes_of(product.a.kind);
    for (const auto &[least, by] : {std::make_pair(factor, wanted.aligned_a),
                                    std::make_pair(factor, wanted.aligned_b),
                                    std::make_pair(sizeof(float), wanted.aligned_c),
                                    std::make_pair(sizeof(float), wanted.aligned_d)})
        if (by < least || (by & (by - 1)) != 0)
            return refuse(what, "no algorithm reads numbers of " + std::to_string(least) +
                                    " bytes at multiples of " + std::to_string(by));
    *count = 0;
    if (product.has_bias() && getenv("SKN_CARD_WITHOUT_BIASES") != nullptr)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    Algorithm algorithm = {};
    algorithm.product = number_of(product);
    algorithm.aligned_a = wanted.aligned_a;
    algorithm.aligned_b = wanted.aligned_b;
    algorithm.aligned_d = std::min(wanted.aligned_c, wanted.aligned_d);
    algorithm.aligned_bias = product.has_bias() ? std::max(16u, aligned(product.operation.bias)) : 1;
    algorithm.parts = 1;
    if (product.k >= LONG) {
        const uint64_t all = PARTS * uint64_t(product.m * product.n) * sizeof(float);
        if ((wanted.reduction & CUBLASLT_REDUCTION_SCHEME_INPLACE) != 0)
            algorithm.parts = PARTS, algorithm.in_place = 1;
        else if ((wanted.reduction & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0 && all <= wanted.workspace)
            algorithm.parts = PARTS, algorithm.workspace = all;
    }
    results[0] = {};
    memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
    results[0].workspaceSize = algorithm.workspace;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    results[0].wavesCount = 1.0f;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t layout_a, const void *b,
                              cublasLtMatrixLayout_t layout_b, const void *beta, const void *c,
                              cublasLtMatrixLayout_t layout_c, void *d, cublasLtMatrixLayout_t layout_d,
                              const cublasLtMatmulAlgo_t *chosen, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    const char *what = "cublasLtMatmul";
    Product product;
    TRY(read(what, handle, operation, layout_a, layout_b, layout_c, layout_d, product));
    if (stream != PER_THREAD)
        return refuse(what, "expected the stream of the calling thread");
    if (alpha == nullptr || beta == nullptr || played_card_has(alpha) || played_card_has(beta))
        return refuse(what, "expected alpha and beta in the host's memory");
    if (c != d || product.c.leading != product.d.leading)
        return refuse(what, "C that is not D is not played");
    if (chosen == nullptr)
        return refuse(what, "a product without an algorithm is not played");
    Algorithm algorithm;
    memcpy(&algorithm, chosen, sizeof(algorithm));
    if (algorithm.product != number_of(product))
        return refuse(what, "the algorithm is for another product");
    if (workspace_bytes < algorithm.workspace)
        return refuse(what, "a workspace of " + std::to_string(workspace_bytes) + " bytes, expected " +
                                std::to_string(algorithm.workspace));
    const float by = *static_cast<const float *>(alpha), keeps = *static_cast<const float *>(beta);
    if (played_card_captures(stream)) {
        // The descriptions may be gone when the graph is launched, and the matrices are read then.
        const auto again = [=](void *) {
            return multiply(what, product, algorithm, by, keeps, a, b, d, workspace, stream) ==
                   CUBLAS_STATUS_SUCCESS;
        };
        return played_card_notes(stream, again) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
    }
    return multiply(what, product, algorithm, by, keeps, a, b, d, workspace, stream);
}

} // extern "C"
