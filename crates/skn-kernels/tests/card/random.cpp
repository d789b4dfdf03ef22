// Random numbers of the played card, libcurand.so.10: candle makes a generator when it opens a device. We
// draw no number with it, so there is none.

#include "memory.h"

#include <curand.h>

extern "C" {

curandStatus_t curandCreateGenerator(curandGenerator_t *generator, curandRngType)
{
    if (!played_card_is_ready("curandCreateGenerator"))
        return CURAND_STATUS_INITIALIZATION_FAILED;
    *generator = reinterpret_cast<curandGenerator_t>(new char);
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandDestroyGenerator(curandGenerator_t generator)
{
    delete reinterpret_cast<char *>(generator);
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetStream(curandGenerator_t, cudaStream_t)
{
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t, unsigned long long)
{
    return CURAND_STATUS_SUCCESS;
}

} // extern "C"
