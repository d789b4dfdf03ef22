// What the played libraries know of the card's memory: the driver has it, cuBLAS and cuRAND ask.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <functional>

extern "C" {

// Whether these bytes lie in one allocation, at a multiple of `aligned`, and a stream may read or write them
// now. If not, it is told, as something of `what`, and the card is broken from then on, as one is
// that had an illegal access.
bool played_card_holds(const char *what, const void *from, size_t bytes, size_t aligned, void *stream,
                       bool written);

// Whether an address is in the card's memory.
bool played_card_has(const void *address);

// Whether a context is current in this thread and nothing is broken. If not, it is told.
bool played_card_is_ready(const char *what);

// Whether what is queued on a stream is captured, and then notes what is done when the graph is launched,
// given the stream that it is launched on.
bool played_card_captures(void *stream);
bool played_card_notes(void *stream, std::function<bool(void *)> done);

// Tells something that is wrong.
void played_card_tells(const char *what, const char *wrong);

} // extern "C"
