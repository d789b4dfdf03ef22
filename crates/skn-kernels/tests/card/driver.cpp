// A driver of CUDA that plays a card in the host's memory: libcuda.so.1 for programs built with
// `--features cuda`. scripts/played-card.sh builds it and runs a program with it.
//
// It has the functions that cudarc calls for candle and for us, and no other: a program that needs another
// one does not start, and the loader names it. Everything is done when it is called, one call at a time but
// for products, which threads compute at the same time.
//
// - Memory is full of 0xff when it is new: no number, or all ones. Each allocation ends at a page that cannot
//   be read or written, and so does its place when it is freed. What is written beside it and before that
//   page is found at the end of a launch or when it is freed.
// - A module is PTX. Of an entry, the parameters, the launch bounds and the shared memory are read there. Our
//   kernels are then played as they are in the tests, compiled for the host (tests/host). All others are
//   candle's. They are played as PTX: ptx.py makes C++ of them when they are first launched.
// - Each thread has a queue of its own (CU_STREAM_PER_THREAD). A thread that uses what another one has
//   written, or writes or frees what it reads, is told, if nobody has waited for that one's queue.
// - A stream is captured as a graph: what is queued then is checked, noted, and done when the graph is
//   launched, each time. Memory that was asked for in a capture is there from its own node on to the node that
//   frees it. What waits for the card, reads back, or reads the host's memory is refused in a capture; the
//   last a card may allow, and read that memory at each launch, when it may be another one's.
// - What a card would refuse is refused: an empty grid, more shared memory than was asked for, a thread with
//   no context. What was read or written beside memory breaks the card for good.
//
// The environment, which the script sets: SKN_CARD_HOST, the folder tests/host; SKN_CARD_CACHE, where
// compiled PTX is kept; CXX and PYTHON. And if one wants:
//   SKN_CARD_ORDER          0 to 2, the order of threads (player.cpp)
//   SKN_CARD_PTX            to play our kernels as PTX too
//   SKN_CARD_WITHOUT_POOLS  to play a card without memory pools, on which memory of no bytes is an error
//   SKN_CARD_WITHOUT_PLACE  to play a card that has no memory for graphs
//   SKN_CARD_WITHOUT_BIASES to play a cuBLASLt that has no algorithm that adds a bias (blas_lt.cpp)
//   SKN_CARD_SAYS           to be told at the end what was launched
//   SKN_CARD_ABORTS         to end the program where the card breaks, for a debugger

#include "memory.h"

#include "../host/kernels.h"
#include "../host/ptx.h"

#include <cuda.h>

#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace
{

constexpr size_t PAGE = 4096;
// What a vector of four numbers needs; a card's memory begins at multiples of 256.
constexpr size_t ALIGNED = 16;
// What is beside memory: not what new memory is full of, since a kernel that reads that may write it.
constexpr unsigned char BESIDE = 0xa5;
// How many freed allocations are kept where nobody can read or write them.
constexpr size_t KEPT_FREED = 4096;
constexpr int MAJOR = 9, MINOR = 0;

// All calls, one after the other.
std::recursive_mutex calls;

// An error that stays: what a card answers from an illegal access on.
CUresult broken = CUDA_SUCCESS;

thread_local CUcontext current = nullptr;

void tell(const char *what, const std::string &wrong)
{
    fprintf(stderr, "played card: %s: %s\n", what, wrong.c_str());
}

CUresult refuse(CUresult with, const char *what, const std::string &wrong)
{
    tell(what, wrong);
    return with;
}

CUresult break_card(const char *what, const std::string &wrong)
{
    broken = CUDA_ERROR_ILLEGAL_ADDRESS;
    tell(what, wrong);
    if (getenv("SKN_CARD_ABORTS") != nullptr)
        abort();
    return broken;
}

CUresult is_ready(const char *what)
{
    if (broken != CUDA_SUCCESS)
        return broken;
    if (current == nullptr)
        return refuse(CUDA_ERROR_INVALID_CONTEXT, what, "no context is current in this thread");
    return CUDA_SUCCESS;
}

#define READY(what)                                                                                          \
    const std::lock_guard<std::recursive_mutex> locked(calls);                                               \
    if (const CUresult ready = is_ready(what); ready != CUDA_SUCCESS)                                        \
    return ready

// Memory

// A use of memory: by which queue, and after how many other things.
struct Use {
    uint64_t queue = 0, at = 0;
};

struct Allocation {
    uint64_t from;
    size_t bytes;
    // The last that wrote it, and the last of each queue that read it since.
    Use written;
    std::vector<Use> read;
    // All that is mapped, its last page the one that nobody can use.
    unsigned char *whole;
    size_t mapped;
    // Of a graph's memory: whether it is there now. Other memory always is.
    bool of_graph = false, is_there = true;

    // Where nobody wrote beside it: of the page it begins in, and the few bytes behind it.
    bool is_whole() const
    {
        const auto *first = reinterpret_cast<const unsigned char *>(from);
        for (const unsigned char *byte = whole; byte < first; byte++)
            if (*byte != BESIDE)
                return false;
        for (const unsigned char *byte = first + bytes; byte < whole + mapped - PAGE; byte++)
            if (*byte != BESIDE)
                return false;
        return true;
    }
};

// By where they begin.
std::map<uint64_t, Allocation> allocations;
std::deque<Allocation> freed;
size_t bytes_now = 0, bytes_most = 0, allocated = 0;

// The allocation that has an address, if any.
Allocation *allocation_of(uint64_t address)
{
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin())
        return nullptr;
    Allocation &found = (--after)->second;
    return address < found.from + found.bytes ? &found : nullptr;
}

std::string hexadecimal(uint64_t number)
{
    char text[32];
    snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(number));
    return text;
}

// What is at an address where no memory of the card is.
std::string place(uint64_t address)
{
    const auto in = [&](const Allocation &allocation) {
        return address >= reinterpret_cast<uint64_t>(allocation.whole) &&
               address < reinterpret_cast<uint64_t>(allocation.whole) + allocation.mapped;
    };
    std::string said = hexadecimal(address);
    for (const auto &entry : allocations)
        if (in(entry.second))
            return said + ", beside an allocation of " + std::to_string(entry.second.bytes) + " bytes";
    for (const Allocation &allocation : freed)
        if (in(allocation))
            return said + ", in or beside a freed allocation of " + std::to_string(allocation.bytes) +
                   " bytes";
    return said + ", which is no memory of the card: the host's, or nobody's";
}

// Queues. candle gives all its work to the stream of the calling thread, so that each thread has a queue of
// its own, and what one thread has queued another one's work does not wait for. Here everything is done at
// once, but it is noted what was waited for.

uint64_t things = 0;
// What of each queue was waited for: all before so many things.
std::map<uint64_t, uint64_t> waited;
// And of every queue.
uint64_t waited_of_all = 0;

uint64_t queue_of(CUstream stream)
{
    static std::atomic<uint64_t> threads{1};
    thread_local const uint64_t own = threads++;
    const auto handle = reinterpret_cast<uintptr_t>(stream);
    // CU_STREAM_PER_THREAD
    return handle == 2 ? own : uint64_t(handle) << 16;
}

bool is_done(const Use &use, uint64_t queue)
{
    return use.queue == queue || use.at <= waited_of_all || use.at <= waited[use.queue];
}

enum class How { READS, WRITES };

// Notes a use of memory, if what was done with it before is done for this queue.
CUresult use(const char *what, Allocation &allocation, uint64_t queue, How how)
{
    const auto refused = [&](const char *before) {
        return break_card(what, std::string("another thread ") + before + " " +
                                    std::to_string(allocation.bytes) +
                                    " bytes that this one uses, and nobody has waited for that");
    };
    if (!allocation.is_there)
        return break_card(what, std::to_string(allocation.bytes) +
                                    " bytes of a graph that has not asked for them, or has freed them");
    if (!is_done(allocation.written, queue))
        return refused("writes");
    const Use now = {queue, ++things};
    if (how == How::WRITES) {
        for (const Use &read : allocation.read)
            if (!is_done(read, queue))
                return refused("reads");
        allocation.read.clear();
        allocation.written = now;
        return CUDA_SUCCESS;
    }
    for (Use &read : allocation.read)
        if (read.queue == queue) {
            read = now;
            return CUDA_SUCCESS;
        }
    allocation.read.push_back(now);
    return CUDA_SUCCESS;
}

void wait_for(CUstream stream)
{
    waited[queue_of(stream)] = ++things;
}

CUresult expect_memory(const char *what, uint64_t from, size_t bytes, size_t aligned)
{
    if (bytes == 0)
        return CUDA_SUCCESS;
    const Allocation *allocation = allocation_of(from);
    if (allocation == nullptr)
        return break_card(what, "expected memory of the card, found " + place(from));
    if (from + bytes > allocation->from + allocation->bytes)
        return break_card(what, std::to_string(bytes) + " bytes from " +
                                    std::to_string(from - allocation->from) + " on of an allocation of " +
                                    std::to_string(allocation->bytes));
    if (from % aligned != 0)
        return break_card(what, "expected a multiple of " + std::to_string(aligned) + ", found " +
                                    hexadecimal(from));
    return CUDA_SUCCESS;
}

bool has_pools()
{
    return getenv("SKN_CARD_WITHOUT_POOLS") == nullptr;
}

// Memory that is used from here on.
CUresult use_memory(const char *what, uint64_t from, size_t bytes, CUstream stream, How how)
{
    if (const CUresult wrong = expect_memory(what, from, bytes, 1); wrong != CUDA_SUCCESS || bytes == 0)
        return wrong;
    return use(what, *allocation_of(from), queue_of(stream), how);
}

CUresult allocate(const char *what, CUdeviceptr *out, size_t bytes, CUstream stream)
{
    // From a pool there is a place of no bytes, as many programs hope; a card without pools has none.
    if (bytes == 0 && !has_pools())
        return refuse(CUDA_ERROR_INVALID_VALUE, what, "memory of no bytes was asked for");
    const size_t filled = (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
    const size_t pages = (filled + PAGE - 1) / PAGE * PAGE, mapped = pages + PAGE;
    void *whole =
        mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED)
        return refuse(CUDA_ERROR_OUT_OF_MEMORY, what, std::to_string(bytes) + " bytes");
    auto *first = static_cast<unsigned char *>(whole);
    if (mprotect(first + pages, PAGE, PROT_NONE) != 0)
        return refuse(CUDA_ERROR_OUT_OF_MEMORY, what, "too many allocations for the host");
    memset(first, BESIDE, pages);
    memset(first + pages - filled, player::UNWRITTEN, bytes);
    const uint64_t from = reinterpret_cast<uint64_t>(first) + pages - filled;
    allocations[from] = {from, bytes, {queue_of(stream), ++things}, {}, first, mapped, false, true};
    allocated++;
    bytes_now += bytes;
    bytes_most = bytes_now > bytes_most ? bytes_now : bytes_most;
    *out = from;
    return CUDA_SUCCESS;
}

void unmap(std::map<uint64_t, Allocation>::iterator found)
{
    const Allocation allocation = found->second;
    allocations.erase(found);
    bytes_now -= allocation.bytes;
    // Nobody may use it now, and no other memory comes to its place for a while.
    madvise(allocation.whole, allocation.mapped, MADV_DONTNEED);
    mprotect(allocation.whole, allocation.mapped, PROT_NONE);
    freed.push_back(allocation);
    if (freed.size() > KEPT_FREED) {
        munmap(freed.front().whole, freed.front().mapped);
        freed.pop_front();
    }
}

CUresult release(const char *what, uint64_t from, CUstream stream)
{
    const auto found = allocations.find(from);
    if (found == allocations.end())
        return break_card(what, "expected the beginning of an allocation, found " + place(from));
    if (const CUresult wrong = use(what, found->second, queue_of(stream), How::WRITES); wrong != CUDA_SUCCESS)
        return wrong;
    if (!found->second.is_whole())
        return break_card(what, "somebody wrote beside an allocation of " +
                                    std::to_string(found->second.bytes) + " bytes");
    if (found->second.of_graph) {
        // Its place stays the graph's.
        memset(reinterpret_cast<void *>(from), player::UNWRITTEN, found->second.bytes);
        found->second.is_there = false;
        return CUDA_SUCCESS;
    }
    unmap(found);
    return CUDA_SUCCESS;
}
// Streams and events

std::set<const void *> streams, events;

CUresult expect_stream(const char *what, CUstream stream)
{
    // The default stream, and those with a fixed name.
    if (reinterpret_cast<uintptr_t>(stream) <= 2 || streams.count(stream) != 0)
        return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_INVALID_HANDLE, what, "expected a stream");
}

CUresult expect_event(const char *what, CUevent event)
{
    if (events.count(event) != 0)
        return CUDA_SUCCESS;
    return refuse(CUDA_ERROR_INVALID_HANDLE, what, "expected an event");
}

#define TRY(call)                                                                                            \
    if (const CUresult result = (call); result != CUDA_SUCCESS)                                              \
    return result

// Graphs

// What is done at each launch, on the stream that it is launched on.
using GraphNode = std::function<CUresult(CUstream)>;

struct Graph {
    std::vector<GraphNode> nodes;
    // Memory that was asked for in the capture, and what of it is not freed at its end.
    std::vector<uint64_t> memory;
    std::set<uint64_t> left;
    // Those that can be launched, and whether the graph itself is still somebody's.
    unsigned instances = 0;
    bool is_held = true;
};

// A stream that is captured.
struct Capture {
    std::unique_ptr<Graph> graph = std::make_unique<Graph>();
    std::thread::id by = std::this_thread::get_id();
    CUstreamCaptureMode mode;
    bool is_valid = true;
};

struct Instance {
    Graph *graph;
    bool frees_first;
};

// By queue.
std::map<uint64_t, Capture> captures;
std::set<Graph *> graphs;
std::set<Instance *> instances;

Capture *capture_of(CUstream stream)
{
    const auto found = captures.find(queue_of(stream));
    return found == captures.end() ? nullptr : &found->second;
}

CUresult refuse_in(Capture &capture, CUresult with, const char *what, const std::string &wrong)
{
    capture.is_valid = false;
    return refuse(with, what, wrong + " in a capture");
}

// Notes what is done when the graph is launched.
CUresult note(Capture &capture, GraphNode node)
{
    if (!capture.is_valid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    capture.graph->nodes.push_back(std::move(node));
    return CUDA_SUCCESS;
}

// Refuses what waits for a stream, where it is captured.
CUresult expect_no_capture(const char *what, CUstream stream, const char *wrong)
{
    if (Capture *capture = capture_of(stream))
        return refuse_in(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, what, wrong);
    return CUDA_SUCCESS;
}

// Refuses what a thread may not do while it captures, or anybody while somebody captures for all.
CUresult expect_free(const char *what)
{
    for (auto &entry : captures) {
        const bool own = entry.second.by == std::this_thread::get_id();
        if (entry.second.mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
            (own && entry.second.mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
            return refuse_in(entry.second, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, what, "it may wait,");
    }
    return CUDA_SUCCESS;
}

// Frees what nobody can use any more.
void let_go(Graph *graph)
{
    if (graph->is_held || graph->instances > 0)
        return;
    for (const uint64_t from : graph->memory)
        if (const auto found = allocations.find(from); found != allocations.end())
            unmap(found);
    graphs.erase(graph);
    delete graph;
}

CUresult allocate_in(Capture &capture, const char *what, CUdeviceptr *out, size_t bytes, CUstream stream)
{
    TRY(allocate(what, out, bytes, stream));
    const uint64_t from = *out;
    Allocation &allocation = allocations[from];
    allocation.of_graph = true;
    allocation.is_there = false;
    capture.graph->memory.push_back(from);
    capture.graph->left.insert(from);
    return note(capture, [from](CUstream on) {
        Allocation &its = allocations[from];
        memset(reinterpret_cast<void *>(from), player::UNWRITTEN, its.bytes);
        its.is_there = true;
        its.written = {queue_of(on), ++things};
        its.read.clear();
        return CUDA_SUCCESS;
    });
}

CUresult free_in(Capture &capture, const char *what, uint64_t from)
{
    if (capture.graph->left.erase(from) == 0)
        return refuse_in(capture, CUDA_ERROR_INVALID_VALUE, what,
                         "memory that was asked for elsewhere is freed");
    return note(capture, [what, from](CUstream on) { return release(what, from, on); });
}

// Modules

// A parameter of a kernel.
struct Place {
    size_t bytes;
    // Of our kernels: how large what it points to is, or 0 where it is a number, and whether it is only read.
    size_t pointed;
    bool is_read;
};

// One of our kernels.
struct Ours {
    bool waits;
    std::vector<Place> places;
    std::function<std::function<void()>(const uint64_t *)> call;
};

template <class T> constexpr Place place_of()
{
    if constexpr (std::is_pointer<T>::value)
        return {8, sizeof(std::remove_pointer_t<T>), std::is_const<std::remove_pointer_t<T>>::value};
    else
        return {sizeof(T), 0, true};
}

template <class T> T parameter_of(uint64_t bits)
{
    if constexpr (std::is_pointer<T>::value)
        return reinterpret_cast<T>(bits);
    else if constexpr (std::is_same<T, float>::value)
        return same_bits<float>(uint32_t(bits));
    else
        return T(bits);
}

template <class... T, size_t... I> Ours ours_of(bool waits, void (*kernel)(T...), std::index_sequence<I...>)
{
    return {waits, {place_of<T>()...}, [kernel](const uint64_t *parameters) {
                return std::function<void()>([kernel, taken = std::tuple<T...>(parameter_of<T>(
                                                          parameters[I])...)] { std::apply(kernel, taken); });
            }};
}

template <class... T> Ours ours_of(bool waits, void (*kernel)(T...))
{
    return ours_of(waits, kernel, std::index_sequence_for<T...>());
}

const std::map<std::string, Ours> &ours()
{
    static const std::map<std::string, Ours> table = [] {
        std::map<std::string, Ours> all;
        each_kernel(
            [&](const char *name, bool waits, auto *kernel) { all.emplace(name, ours_of(waits, kernel)); });
        return all;
    }();
    return table;
}

// A kernel as its PTX says it is.
struct Function {
    std::string name, body;
    std::vector<size_t> parameters;
    // What its text needs of what stands before it: the names of the shared memory that a launch brings.
    std::string outside;
    // Where the PTX doesn't say, what any kernel may have.
    unsigned most_threads = player::MOST_THREADS;
    unsigned fixed_shared = 0;
    // What a launch may bring: without asking, as much as is left of 48 KB.
    unsigned dynamic_shared = 0;
    bool waits = false;
    const Ours *own = nullptr;
    void (*played)(const uint64_t *) = nullptr;
    // What was launched, for SKN_CARD_SAYS.
    uint64_t launches = 0, microseconds = 0;
};

struct Module {
    std::string text;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

std::set<Module *> modules;
std::set<const Function *> functions;

// The number behind a word, or `otherwise` where the word isn't there.
unsigned number_behind(const std::string &text, const char *word, unsigned otherwise)
{
    const size_t found = text.find(word);
    return found == std::string::npos ? otherwise
                                      : unsigned(strtoul(text.c_str() + found + strlen(word), nullptr, 10));
}

// How many bytes a parameter has, by its line: `.param .u64 .ptr .align 1 name` or `.param .align 8 .b8
// name[24]`.
size_t bytes_of(const std::string &line)
{
    static const std::map<std::string, size_t> SIZES = {
        {"u64", 8}, {"s64", 8}, {"b64", 8}, {"f64", 8}, {"u32", 4}, {"s32", 4}, {"b32", 4}, {"f32", 4},
        {"u16", 2}, {"s16", 2}, {"b16", 2}, {"f16", 2}, {"u8", 1},  {"s8", 1},  {"b8", 1},
    };
    const size_t bracket = line.find('[');
    const size_t count = bracket == std::string::npos ? 1 : strtoull(line.c_str() + bracket + 1, nullptr, 10);
    for (size_t dot = line.find('.'); dot != std::string::npos; dot = line.find('.', dot + 1)) {
        const size_t end = line.find_first_of(" \t", dot);
        const auto found = SIZES.find(line.substr(dot + 1, end - dot - 1));
        if (found != SIZES.end())
            return found->second * count;
    }
    return 0;
}

// The entry of this name, or nothing.
std::unique_ptr<Function> read_entry(const std::string &text, const std::string &name)
{
    size_t begin = text.find(".entry " + name);
    // Not one whose name only begins so.
    while (begin != std::string::npos && strchr("( \t\n", text[begin + 7 + name.size()]) == nullptr)
        begin = text.find(".entry " + name, begin + 1);
    if (begin == std::string::npos)
        return nullptr;
    auto function = std::make_unique<Function>();
    function->name = name;
    const size_t open = text.find('(', begin), close = text.find(')', open), body = text.find("\n{", close);
    const size_t end = text.find("\n}", body);
    for (size_t from = text.find(".param", open); from < close; from = text.find(".param", from + 1))
        function->parameters.push_back(bytes_of(text.substr(from, text.find_first_of(",)", from) - from)));
    const std::string bounds = text.substr(close, body - close);
    function->most_threads = number_behind(bounds, ".maxntid", function->most_threads);
    function->body = text.substr(begin, end + 2 - begin);
    for (size_t at = function->body.find("\n\t.shared"); at != std::string::npos;
         at = function->body.find("\n\t.shared", at + 1)) {
        const size_t bracket = function->body.find('[', at);
        function->fixed_shared += unsigned(strtoul(function->body.c_str() + bracket + 1, nullptr, 10));
    }
    if (function->fixed_shared > player::SHARED_WITHOUT_ASKING) {
        tell(name.c_str(),
             std::to_string(function->fixed_shared) + " bytes of shared memory of a fixed size");
        return nullptr;
    }
    function->dynamic_shared = player::SHARED_WITHOUT_ASKING - function->fixed_shared;
    for (size_t at = text.find("\n.extern .shared"); at != std::string::npos;
         at = text.find("\n.extern .shared", at + 1))
        function->outside += text.substr(at + 1, text.find('\n', at + 1) - at);
    for (const char *word : {"\tbar.", "\tbarrier.", "\tshfl."})
        function->waits = function->waits || function->body.find(word) != std::string::npos;
    const auto own = ours().find(name);
    // Where the PTX of ours is wanted it is played like any other.
    if (own != ours().end() && getenv("SKN_CARD_PTX") == nullptr) {
        function->own = &own->second;
        function->waits = own->second.waits;
    }
    return function;
}

std::string of_environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != nullptr && *value != 0 ? value : otherwise;
}

// FNV-1a (Fowler, Noll, Vo).
uint64_t hash_of(const std::string &text)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (const char byte : text)
        hash = (hash ^ uint8_t(byte)) * 0x100000001b3;
    return hash;
}

// Compiles an entry for the host, or finds it where it was compiled before.
CUresult compile(Function &function)
{
    const char *host = getenv("SKN_CARD_HOST"), *cache = getenv("SKN_CARD_CACHE");
    if (host == nullptr || cache == nullptr)
        return refuse(CUDA_ERROR_NOT_FOUND, function.name.c_str(),
                      "SKN_CARD_HOST and SKN_CARD_CACHE are not set");
    const std::string at =
        std::string(cache) + "/" + function.name + "-" + hexadecimal(hash_of(function.body));
    const std::string library = at + ".so", mine = at + "." + std::to_string(getpid());
    if (access(library.c_str(), R_OK) != 0) {
        // Its header says what it was made for; only this entry is read.
        const std::string ptx = mine + ".ptx";
        FILE *file = fopen(ptx.c_str(), "w");
        const std::string whole = "//\n\n" + function.outside + ".visible " + function.body + "\n";
        if (file == nullptr || fwrite(whole.data(), 1, whole.size(), file) != whole.size() ||
            fclose(file) != 0)
            return refuse(CUDA_ERROR_NOT_FOUND, function.name.c_str(), ptx + " can not be written");
        const std::string command =
            "'" + of_environment("PYTHON", "python3") + "' '" + host + "/ptx.py' '" + ptx + "' '" + mine +
            ".h' " + function.name + " >/dev/null && '" + of_environment("CXX", "c++") +
            "' -std=c++17 -O2 -march=native -ffp-contract=off -fno-semantic-interposition "
            "-fvisibility-inlines-hidden -w -fPIC -shared -I '" +
            host + "' -include ptx.h -x c++ '" + mine + ".h' -o '" + mine + ".so' && mv '" + mine + ".so' '" +
            library + "'; failed=$?; rm -f '" + mine + "'.*; exit $failed";
        // The program's own libraries are none of the compiler's.
        const std::string cleared = "unset LD_LIBRARY_PATH LD_PRELOAD; " + command;
        if (system(cleared.c_str()) != 0)
            return refuse(CUDA_ERROR_NOT_FOUND, function.name.c_str(),
                          "its PTX can not be played, see above");
    }
    void *opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    void *found = opened == nullptr ? nullptr : dlsym(opened, "played_entry");
    if (found == nullptr)
        return refuse(CUDA_ERROR_NOT_FOUND, function.name.c_str(), dlerror());
    function.played = reinterpret_cast<void (*)(const uint64_t *)>(found);
    return CUDA_SUCCESS;
}

// Launches

// What is launched now, for the handler of signals.
const Function *launched = nullptr;
struct sigaction handled_before[2];

// What reads or writes beside memory ends the program, with the place it happened.
void on_fault(int number, siginfo_t *info, void *)
{
    if (launched != nullptr) {
        const std::string where = place(reinterpret_cast<uint64_t>(info->si_addr));
        const std::string who = player::said(player::state.thread);
        fprintf(stderr, "played card: %s: %s reads or writes at %s\n", launched->name.c_str(), who.c_str(),
                where.c_str());
    }
    // The instruction is done again, and goes to who had the signal before.
    sigaction(number, &handled_before[number == SIGBUS], nullptr);
}

void handle_faults()
{
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &handled_before[0]);
    sigaction(SIGBUS, &action, &handled_before[1]);
}

uint64_t graphs_launched = 0;

void say_launches()
{
    fprintf(stderr, "played card: %llu graphs launched\n", static_cast<unsigned long long>(graphs_launched));
    fprintf(stderr, "played card: %zu allocations, at most %zu bytes at once, %zu bytes left\n", allocated,
            bytes_most, bytes_now);
    std::map<std::string, std::pair<uint64_t, uint64_t>> sums;
    for (const Module *module : modules)
        for (const auto &entry : module->functions) {
            sums[entry.first].first += entry.second->launches;
            sums[entry.first].second += entry.second->microseconds;
        }
    for (const auto &sum : sums)
        fprintf(stderr, "played card: %-36s %8llu launches, %10.3f s\n", sum.first.c_str(),
                static_cast<unsigned long long>(sum.second.first), double(sum.second.second) * 1e-6);
}

// The parameters' bits, and what is wrong with those of ours.
CUresult read_parameters(const Function &function, void **from, std::vector<uint64_t> &parameters)
{
    const char *name = function.name.c_str();
    if (function.own != nullptr && function.own->places.size() != function.parameters.size())
        return refuse(CUDA_ERROR_INVALID_VALUE, name,
                      "its PTX has " + std::to_string(function.parameters.size()) +
                          " parameters, the source " + std::to_string(function.own->places.size()));
    for (size_t i = 0; i < function.parameters.size(); i++) {
        const size_t bytes = function.parameters[i];
        const std::string which = "parameter " + std::to_string(i);
        if (bytes == 0 || bytes > 8)
            return refuse(CUDA_ERROR_INVALID_VALUE, name, which + " is a structure, which is not played");
        if (from == nullptr || from[i] == nullptr)
            return refuse(CUDA_ERROR_INVALID_VALUE, name, which + " is missing");
        uint64_t bits = 0;
        memcpy(&bits, from[i], bytes);
        parameters.push_back(bits);
        if (function.own == nullptr)
            continue;
        const Place &place = function.own->places[i];
        if (place.bytes != bytes)
            return refuse(CUDA_ERROR_INVALID_VALUE, name,
                          which + " has " + std::to_string(bytes) + " bytes in its PTX, in the source " +
                              std::to_string(place.bytes));
    }
    return CUDA_SUCCESS;
}

// What the parameters of ours point to is memory of the card.
CUresult expect_parameters(const Function &function, const std::vector<uint64_t> &parameters)
{
    for (size_t i = 0; function.own != nullptr && i < parameters.size(); i++) {
        const size_t pointed = function.own->places[i].pointed;
        if (pointed != 0 && parameters[i] != 0)
            TRY(expect_memory((function.name + ", parameter " + std::to_string(i)).c_str(), parameters[i],
                              pointed, pointed));
    }
    return CUDA_SUCCESS;
}

// Finds what the parameters of a kernel point to, and notes that it is used. What one of candle's writes is
// known when it has.
CUresult use_parameters(const Function &function, const std::vector<uint64_t> &parameters, CUstream stream,
                        std::vector<Allocation *> &used)
{
    for (size_t i = 0; i < parameters.size(); i++) {
        Allocation *allocation = allocation_of(parameters[i]);
        if (allocation == nullptr || (function.own != nullptr && function.own->places[i].pointed == 0))
            continue;
        const bool is_read = function.own == nullptr || function.own->places[i].is_read;
        const How how = is_read ? How::READS : How::WRITES;
        TRY(use((function.name + ", parameter " + std::to_string(i)).c_str(), *allocation, queue_of(stream),
                how));
        used.push_back(allocation);
    }
    return CUDA_SUCCESS;
}

uint64_t microseconds_now()
{
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return uint64_t(now.tv_sec) * 1000000 + uint64_t(now.tv_nsec) / 1000;
}

CUresult run(Function &function, dim3 grid, dim3 block, unsigned shared, CUstream stream,
             const std::vector<uint64_t> &parameters);

CUresult launch(Function &function, dim3 grid, dim3 block, unsigned shared, CUstream stream, void **from)
{
    const char *name = function.name.c_str();
    if (block.y != 1 || block.z != 1)
        return refuse(CUDA_ERROR_INVALID_VALUE, name, "blocks of more than one dimension are not played");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return refuse(CUDA_ERROR_INVALID_VALUE, name, "an empty grid");
    if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
        return refuse(CUDA_ERROR_INVALID_VALUE, name, "a grid that no card takes");
    if (block.x == 0)
        return refuse(CUDA_ERROR_INVALID_VALUE, name, "an empty block");
    if (block.x > function.most_threads)
        return refuse(CUDA_ERROR_INVALID_VALUE, name,
                      "a block of " + std::to_string(block.x) + " threads, expected at most " +
                          std::to_string(function.most_threads));
    if (shared > function.dynamic_shared || shared + function.fixed_shared > player::MOST_SHARED)
        return refuse(CUDA_ERROR_INVALID_VALUE, name,
                      std::to_string(shared) + " bytes of shared memory beside " +
                          std::to_string(function.fixed_shared) + ", expected at most " +
                          std::to_string(function.dynamic_shared));
    std::vector<uint64_t> parameters;
    TRY(read_parameters(function, from, parameters));
    TRY(expect_parameters(function, parameters));
    if (Capture *capture = capture_of(stream))
        return note(*capture, [=, &function](CUstream on) {
            TRY(expect_parameters(function, parameters));
            return run(function, grid, block, shared, on, parameters);
        });
    return run(function, grid, block, shared, stream, parameters);
}

CUresult run(Function &function, dim3 grid, dim3 block, unsigned shared, CUstream stream,
             const std::vector<uint64_t> &parameters)
{
    const char *name = function.name.c_str();
    std::vector<Allocation *> used;
    TRY(use_parameters(function, parameters, stream, used));
    player::Launch played = {};
    played.grid = grid;
    played.threads = block.x;
    played.shared = shared;
    played.order = unsigned(atoi(of_environment("SKN_CARD_ORDER", "0").c_str()));
    played.waits = function.waits;
    if (function.own != nullptr) {
        played.body = function.own->call(parameters.data());
    } else {
        if (function.played == nullptr)
            TRY(compile(function));
        played.fixed = function.fixed_shared;
        ptx::arrays.clear();
        for (const Allocation *allocation : used)
            ptx::arrays.push_back({allocation->from, allocation->from + allocation->bytes, true, true});
        played.body = [run = function.played, at = parameters.data()] { run(at); };
    }
    const uint64_t began = microseconds_now();
    launched = &function;
    const std::string wrong = player::play(played);
    launched = nullptr;
    function.launches++;
    function.microseconds += microseconds_now() - began;
    if (!wrong.empty())
        return break_card(name, wrong);
    for (const Allocation *allocation : used)
        if (!allocation->is_whole())
            return break_card(name, "wrote beside an allocation of " + std::to_string(allocation->bytes) +
                                        " bytes");
    if (function.own == nullptr)
        for (size_t i = 0; i < used.size(); i++)
            if (ptx::arrays[i].was_written)
                TRY(use(name, *used[i], queue_of(stream), How::WRITES));
    return CUDA_SUCCESS;
}

} // namespace

extern "C" {

bool played_card_holds(const char *what, const void *from, size_t bytes, size_t aligned, void *stream,
                       bool written)
{
    const std::lock_guard<std::recursive_mutex> locked(calls);
    const auto address = reinterpret_cast<uint64_t>(from);
    const How how = written ? How::WRITES : How::READS;
    return expect_memory(what, address, bytes, aligned) == CUDA_SUCCESS &&
           use_memory(what, address, bytes, static_cast<CUstream>(stream), how) == CUDA_SUCCESS;
}

bool played_card_captures(void *stream)
{
    const std::lock_guard<std::recursive_mutex> locked(calls);
    return capture_of(static_cast<CUstream>(stream)) != nullptr;
}

bool played_card_notes(void *stream, std::function<bool(void *)> done)
{
    const std::lock_guard<std::recursive_mutex> locked(calls);
    Capture *capture = capture_of(static_cast<CUstream>(stream));
    return capture != nullptr && note(*capture, [done = std::move(done)](CUstream on) {
               return done(on) ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED;
           }) == CUDA_SUCCESS;
}

bool played_card_has(const void *address)
{
    const std::lock_guard<std::recursive_mutex> locked(calls);
    return allocation_of(reinterpret_cast<uint64_t>(address)) != nullptr;
}

bool played_card_is_ready(const char *what)
{
    const std::lock_guard<std::recursive_mutex> locked(calls);
    return is_ready(what) == CUDA_SUCCESS;
}

void played_card_tells(const char *what, const char *wrong)
{
    tell(what, wrong);
}

CUresult cuInit(unsigned flags)
{
    const std::lock_guard<std::recursive_mutex> locked(calls);
    static const bool once = [] {
        handle_faults();
        if (getenv("SKN_CARD_SAYS") != nullptr)
            atexit(say_launches);
        return true;
    }();
    (void)once;
    return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// NVRTC looks for a driver and asks it for what is in no header. It goes on without.
CUresult cuGetExportTable(const void **, const CUuuid *)
{
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    switch (error) {
    case CUDA_SUCCESS:
        *text = "no error";
        break;
    case CUDA_ERROR_INVALID_VALUE:
        *text = "invalid argument";
        break;
    case CUDA_ERROR_OUT_OF_MEMORY:
        *text = "out of memory";
        break;
    case CUDA_ERROR_ILLEGAL_ADDRESS:
        *text = "an illegal memory access was encountered";
        break;
    case CUDA_ERROR_INVALID_DEVICE:
        *text = "invalid device ordinal";
        break;
    default:
        *text = "an error of the played card";
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    if (device != 0 || length <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    snprintf(name, size_t(length), "played card");
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    if (device != 0)
        return CUDA_ERROR_INVALID_DEVICE;
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = MAJOR;
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = MINOR;
        break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
        *value = has_pools();
        break;
    default:
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuDeviceGetAttribute",
                      "attribute " + std::to_string(attribute) + " is not played");
    }
    return CUDA_SUCCESS;
}

static char the_context;

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    if (device != 0)
        return CUDA_ERROR_INVALID_DEVICE;
    *context = reinterpret_cast<CUcontext>(&the_context);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    *context = current;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    current = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxDestroy_v2(CUcontext)
{
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuCtxDestroy", "is not played");
}

CUresult cuCtxSynchronize()
{
    READY("cuCtxSynchronize");
    if (!captures.empty())
        return refuse_in(captures.begin()->second, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuCtxSynchronize",
                         "all streams are waited for");
    waited_of_all = ++things;
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
    READY("cuStreamDestroy");
    return streams.erase(stream) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuStreamSynchronize(CUstream stream)
{
    READY("cuStreamSynchronize");
    TRY(expect_stream("cuStreamSynchronize", stream));
    TRY(expect_no_capture("cuStreamSynchronize", stream, "it is waited for"));
    wait_for(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned)
{
    READY("cuStreamWaitEvent");
    TRY(expect_stream("cuStreamWaitEvent", stream));
    TRY(expect_no_capture("cuStreamWaitEvent", stream, "events are not played"));
    return expect_event("cuStreamWaitEvent", event);
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
    READY("cuStreamIsCapturing");
    TRY(expect_stream("cuStreamIsCapturing", stream));
    const Capture *capture = capture_of(stream);
    *status = capture == nullptr    ? CU_STREAM_CAPTURE_STATUS_NONE
              : capture->is_valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                  : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    READY("cuStreamBeginCapture");
    TRY(expect_stream("cuStreamBeginCapture", stream));
    if (reinterpret_cast<uintptr_t>(stream) <= 1)
        return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuStreamBeginCapture",
                      "the default stream can not be captured");
    if (capture_of(stream) != nullptr)
        return refuse(CUDA_ERROR_ILLEGAL_STATE, "cuStreamBeginCapture", "the stream is captured already");
    captures[queue_of(stream)].mode = mode;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *out)
{
    READY("cuStreamEndCapture");
    TRY(expect_stream("cuStreamEndCapture", stream));
    *out = nullptr;
    Capture *capture = capture_of(stream);
    if (capture == nullptr)
        return refuse(CUDA_ERROR_ILLEGAL_STATE, "cuStreamEndCapture", "the stream is not captured");
    if (capture->by != std::this_thread::get_id() && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED)
        return refuse(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "cuStreamEndCapture",
                      "another thread has begun");
    const bool is_valid = capture->is_valid;
    Graph *graph = capture->graph.release();
    captures.erase(queue_of(stream));
    graphs.insert(graph);
    if (!is_valid) {
        graph->is_held = false;
        let_go(graph);
        return refuse(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "cuStreamEndCapture",
                      "something was refused in the capture");
    }
    *out = reinterpret_cast<CUgraph>(graph);
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph handle, unsigned long long flags)
{
    READY("cuGraphInstantiate");
    auto *graph = reinterpret_cast<Graph *>(handle);
    if (graphs.count(graph) == 0 || !graph->is_held)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuGraphInstantiate", "expected a graph");
    if ((flags & ~uint64_t(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH)) != 0)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuGraphInstantiate", "flags that are not played");
    if (graph->instances > 0 && !graph->memory.empty())
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuGraphInstantiate",
                      "a graph with memory of its own has one instance already");
    graph->instances++;
    auto *instance = new Instance{graph, flags != 0};
    instances.insert(instance);
    *out = reinterpret_cast<CUgraphExec>(instance);
    return CUDA_SUCCESS;
}

CUresult cuGraphUpload(CUgraphExec handle, CUstream stream)
{
    READY("cuGraphUpload");
    TRY(expect_stream("cuGraphUpload", stream));
    TRY(expect_no_capture("cuGraphUpload", stream, "graphs in graphs are not played"));
    auto *instance = reinterpret_cast<Instance *>(handle);
    if (instances.count(instance) == 0)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuGraphUpload", "expected a graph that was instantiated");
    if (getenv("SKN_CARD_WITHOUT_PLACE") != nullptr && !instance->graph->memory.empty())
        return refuse(CUDA_ERROR_OUT_OF_MEMORY, "cuGraphUpload", "memory of a graph");
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream)
{
    READY("cuGraphLaunch");
    TRY(expect_stream("cuGraphLaunch", stream));
    TRY(expect_no_capture("cuGraphLaunch", stream, "graphs in graphs are not played"));
    auto *instance = reinterpret_cast<Instance *>(handle);
    if (instances.count(instance) == 0)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuGraphLaunch", "expected a graph that was instantiated");
    for (const uint64_t from : instance->graph->left)
        if (allocations[from].is_there) {
            if (!instance->frees_first)
                return refuse(CUDA_ERROR_INVALID_VALUE, "cuGraphLaunch",
                              "memory of its last launch has not been freed");
            TRY(release("cuGraphLaunch", from, stream));
        }
    for (const GraphNode &node : instance->graph->nodes)
        TRY(node(stream));
    graphs_launched++;
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec handle)
{
    READY("cuGraphExecDestroy");
    auto *instance = reinterpret_cast<Instance *>(handle);
    if (instances.erase(instance) == 0)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuGraphExecDestroy", "expected a graph that was instantiated");
    instance->graph->instances--;
    let_go(instance->graph);
    delete instance;
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph handle)
{
    READY("cuGraphDestroy");
    auto *graph = reinterpret_cast<Graph *>(handle);
    if (graphs.count(graph) == 0 || !graph->is_held)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuGraphDestroy", "expected a graph");
    graph->is_held = false;
    let_go(graph);
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned)
{
    READY("cuEventCreate");
    *event = reinterpret_cast<CUevent>(new char);
    events.insert(*event);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event)
{
    const std::lock_guard<std::recursive_mutex> locked(calls);
    TRY(expect_event("cuEventDestroy", event));
    events.erase(event);
    delete reinterpret_cast<char *>(event);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    READY("cuEventRecord");
    TRY(expect_stream("cuEventRecord", stream));
    TRY(expect_no_capture("cuEventRecord", stream, "events are not played"));
    return expect_event("cuEventRecord", event);
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes)
{
    READY("cuMemAlloc");
    TRY(expect_free("cuMemAlloc"));
    return allocate("cuMemAlloc", out, bytes, CU_STREAM_PER_THREAD);
}

CUresult cuMemAllocAsync(CUdeviceptr *out, size_t bytes, CUstream stream)
{
    READY("cuMemAllocAsync");
    TRY(expect_stream("cuMemAllocAsync", stream));
    if (Capture *capture = capture_of(stream))
        return allocate_in(*capture, "cuMemAllocAsync", out, bytes, stream);
    return allocate("cuMemAllocAsync", out, bytes, stream);
}

CUresult cuMemFree_v2(CUdeviceptr from)
{
    READY("cuMemFree");
    TRY(expect_free("cuMemFree"));
    return release("cuMemFree", from, CU_STREAM_PER_THREAD);
}

CUresult cuMemFreeAsync(CUdeviceptr from, CUstream stream)
{
    READY("cuMemFreeAsync");
    TRY(expect_stream("cuMemFreeAsync", stream));
    if (Capture *capture = capture_of(stream))
        return free_in(*capture, "cuMemFreeAsync", from);
    return release("cuMemFreeAsync", from, stream);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream)
{
    READY("cuMemsetD8Async");
    TRY(expect_stream("cuMemsetD8Async", stream));
    if (Capture *capture = capture_of(stream))
        return note(*capture, [=](CUstream on) { return cuMemsetD8Async(to, value, bytes, on); });
    TRY(use_memory("cuMemsetD8Async", to, bytes, stream, How::WRITES));
    memset(reinterpret_cast<void *>(to), value, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    READY("cuMemcpyHtoDAsync");
    TRY(expect_stream("cuMemcpyHtoDAsync", stream));
    TRY(expect_no_capture("cuMemcpyHtoDAsync", stream, "the host's memory is read"));
    TRY(use_memory("cuMemcpyHtoDAsync", to, bytes, stream, How::WRITES));
    if (bytes > 0 && allocation_of(reinterpret_cast<uint64_t>(from)) != nullptr)
        return break_card("cuMemcpyHtoDAsync", "expected memory of the host to read, found the card's");
    memcpy(reinterpret_cast<void *>(to), from, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    READY("cuMemcpyDtoHAsync");
    TRY(expect_stream("cuMemcpyDtoHAsync", stream));
    TRY(expect_no_capture("cuMemcpyDtoHAsync", stream, "memory is read back"));
    TRY(use_memory("cuMemcpyDtoHAsync", from, bytes, stream, How::READS));
    if (bytes > 0 && allocation_of(reinterpret_cast<uint64_t>(to)) != nullptr)
        return break_card("cuMemcpyDtoHAsync", "expected memory of the host to write, found the card's");
    memcpy(to, reinterpret_cast<const void *>(from), bytes);
    // To memory that any program has it returns when it is done, and so is all before it.
    wait_for(stream);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    READY("cuMemcpyDtoDAsync");
    TRY(expect_stream("cuMemcpyDtoDAsync", stream));
    if (Capture *capture = capture_of(stream))
        return note(*capture, [=](CUstream on) { return cuMemcpyDtoDAsync_v2(to, from, bytes, on); });
    TRY(use_memory("cuMemcpyDtoDAsync", to, bytes, stream, How::WRITES));
    TRY(use_memory("cuMemcpyDtoDAsync", from, bytes, stream, How::READS));
    if (from < to + bytes && to < from + bytes)
        return break_card("cuMemcpyDtoDAsync", "what is read is written too");
    memcpy(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyPeerAsync(CUdeviceptr, CUcontext, CUdeviceptr, CUcontext, size_t, CUstream)
{
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuMemcpyPeerAsync", "is not played: there is one card");
}

CUresult cuModuleLoad(CUmodule *, const char *)
{
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuModuleLoad", "is not played: a module is a text");
}

CUresult cuModuleLoadData(CUmodule *out, const void *image)
{
    READY("cuModuleLoadData");
    TRY(expect_free("cuModuleLoadData"));
    auto module = std::make_unique<Module>();
    module->text = static_cast<const char *>(image);
    const unsigned made_for = number_behind(module->text, "\n.target sm_", 0);
    if (made_for == 0)
        return refuse(CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadData", "expected PTX with its .target");
    if (made_for > MAJOR * 10 + MINOR)
        return refuse(CUDA_ERROR_INVALID_PTX, "cuModuleLoadData",
                      "PTX for sm_" + std::to_string(made_for) + ", which is newer than the card");
    *out = reinterpret_cast<CUmodule>(module.get());
    modules.insert(module.release());
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule handle)
{
    READY("cuModuleUnload");
    // Its functions are kept, so that they can be told of in the end.
    if (modules.count(reinterpret_cast<Module *>(handle)) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuModuleUnload", "expected a module");
    for (const auto &entry : reinterpret_cast<Module *>(handle)->functions)
        functions.erase(entry.second.get());
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule handle, const char *name)
{
    READY("cuModuleGetFunction");
    auto *module = reinterpret_cast<Module *>(handle);
    if (modules.count(module) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuModuleGetFunction", "expected a module");
    std::unique_ptr<Function> &function = module->functions[name];
    if (!function)
        function = read_entry(module->text, name);
    if (!function) {
        module->functions.erase(name);
        return refuse(CUDA_ERROR_NOT_FOUND, "cuModuleGetFunction",
                      std::string("no entry ") + name + " in the module");
    }
    functions.insert(function.get());
    *out = reinterpret_cast<CUfunction>(function.get());
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value)
{
    READY("cuFuncSetAttribute");
    auto *function = reinterpret_cast<Function *>(handle);
    if (functions.count(function) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuFuncSetAttribute", "expected a function");
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuFuncSetAttribute",
                      "attribute " + std::to_string(attribute) + " is not played");
    if (value < 0 || unsigned(value) + function->fixed_shared > player::MOST_SHARED)
        return refuse(CUDA_ERROR_INVALID_VALUE, function->name.c_str(),
                      std::to_string(value) + " bytes of shared memory are more than a block has");
    function->dynamic_shared = unsigned(value);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        CUstream stream, void **parameters, void **extra)
{
    READY("cuLaunchKernel");
    TRY(expect_stream("cuLaunchKernel", stream));
    auto *function = reinterpret_cast<Function *>(handle);
    if (functions.count(function) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuLaunchKernel", "expected a function");
    if (extra != nullptr)
        return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuLaunchKernel", "parameters in one piece are not played");
    return launch(*function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, stream,
                  parameters);
}

} // extern "C"
