// What PTX is played with: see ptx.py. Memory is where the launch's arrays and the block's shared memory are,
// and nowhere else.
#pragma once

#include "host.h"

#include <limits>
#include <map>

namespace ptx
{

// An array of the launch.
struct Array {
    uint64_t from, to;
    // Whether a kernel may take it for constant, and whether it may write it.
    bool may_be_constant, may_be_written;
    bool was_written = false;
};

inline std::vector<Array> arrays;
// Where shared memory begins among all addresses.
constexpr uint64_t WINDOW = uint64_t(1) << 60;

// The same bits as another type of this size, or a number of another size.
template <class To, class From> To as(From value)
{
    if constexpr (sizeof(To) == sizeof(From))
        return same_bits<To>(value);
    else
        return To(value);
}

// What is read by a load that takes it for constant must not be written by the kernel.
inline void *global(uint64_t address, size_t bytes, size_t, bool constant, bool written)
{
    if (address % bytes != 0)
        player::refuse("reads or writes " + std::to_string(bytes) + " bytes that are not aligned");
    for (Array &array : arrays) {
        if (address < array.from || address + bytes > array.to)
            continue;
        if (constant && !array.may_be_constant)
            player::refuse("takes an array for constant that it writes");
        if (written && !array.may_be_written)
            player::refuse("writes to an array that is read");
        array.was_written = array.was_written || written;
        return reinterpret_cast<void *>(address);
    }
    player::refuse("reads or writes beside all arrays");
    return nullptr;
}

inline void *shared(uint64_t address, size_t bytes, size_t fixed, bool, bool)
{
    const size_t size = fixed > 0 ? fixed : player::state.launch->shared;
    if (address % bytes != 0 || address + bytes > size)
        player::refuse("reads or writes beside the shared memory, or not aligned");
    auto *const memory =
        fixed > 0 ? player::fixed_memory : static_cast<unsigned char *>(player::shared_memory());
    return memory + address;
}

inline void *generic(uint64_t address, size_t bytes, size_t fixed, bool constant, bool written)
{
    return address >= WINDOW ? shared(address - WINDOW, bytes, fixed, constant, written)
                             : global(address, bytes, fixed, constant, written);
}

inline float saturated(float x)
{
    return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}

// Rounded down. The product and the sum are exact in f64 where expf asks for it.
inline float fma_down(float a, float b, float c)
{
    const double exact = double(a) * double(b) + double(c);
    const float near = float(exact);
    return double(near) > exact ? nextafterf(near, -INFINITY) : near;
}

// A rounded number as an integer: the nearest there is. What is no number becomes 0, or the highest bit alone
// where one of both types has 64 bits.
template <class To, class From> To as_integer(From rounded)
{
    constexpr To least = std::numeric_limits<To>::min(), most = std::numeric_limits<To>::max();
    if (rounded != rounded)
        return sizeof(From) == 8 || sizeof(To) == 8 ? To(uint64_t(1) << (8 * sizeof(To) - 1)) : To(0);
    const double exact = rounded;
    return exact <= double(least) ? least : exact >= double(most) ? most : To(exact);
}

// To the nearest bf16, halves to the even one.
inline uint16_t as_bf16(float x)
{
    const uint32_t bits = as<uint32_t>(x);
    return x != x ? 0x7fff : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

using Kernel = void (*)(const uint64_t *);

} // namespace ptx
