"""Makes C++ of the PTX that nvcc or NVRTC made of src/cuda/kernels, for the player:

    nvcc -ptx -arch=sm_80 -std=c++17 -fmad=false -DSKN_JOINED -o kernels.ptx -x cu JOINED
    python ptx.py kernels.ptx kernels.h
    c++ -std=c++17 -O1 -ffp-contract=off -DSKN_PTX='"kernels.h"' -o player player.cpp

JOINED is common.cuh and the .cu files, one behind the other. The player then plays what a card would be given, and not what a compiler
for the host makes of the same text: which memory each load is of, which loads take an array for constant, what was reordered.
With the name of a kernel behind FILE.h it makes a function of that one alone, which is what tests/card plays candle's kernels by.

It knows the instructions that these kernels have, and those of candle's kernels for f32, f64, integers, and from and to bf16. Another
one is an error.
"""

import re
import sys

TYPES = {
    "f32": "float", "f64": "double", "pred": "bool", "u8": "uint8_t",
    "u16": "uint16_t", "s16": "int16_t", "b16": "uint16_t", "bf16": "uint16_t",
    "u32": "uint32_t", "s32": "int32_t", "b32": "uint32_t",
    "u64": "uint64_t", "s64": "int64_t", "b64": "uint64_t",
}  # fmt: skip
REGISTERS = {
    "r": "uint32_t", "rd": "uint64_t", "f": "float", "fd": "double", "rs": "uint16_t", "p": "bool", "tmp": "uint64_t", "temp": "uint32_t",
}  # fmt: skip
SPECIAL = {"tid": "threadIdx", "ctaid": "blockIdx", "ntid": "blockDim", "nctaid": "gridDim"}
COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
OPPOSITES = {"lt": ">=", "le": ">", "gt": "<=", "ge": "<", "eq": "!=", "ne": "=="}
ROUNDINGS = {"rni": "rint", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
BITWISE = {"and": "&", "or": "|", "xor": "^"}


class Kernel:
    """One entry of a PTX file."""

    def __init__(self, name, body, of_launch):
        # A call of what an assertion that fails calls, and brackets of inline assembly, which stand on the lines of instructions.
        body = re.sub(r"call\.uni\s+__assertfail,\s*\([^)]*\)", "assertfail", body)
        body = re.sub(r"^\s*st\.param\..*$", "", body, flags=re.M)
        body = re.sub(r"^(\s*)\{[ \t]*(?=[^\s/])", r"\1{\n", body, flags=re.M)
        body = re.sub(r";\s*\}[ \t]*$", ";\n}", body, flags=re.M)
        self.name, self.body, self.of_launch = name, body, of_launch
        # Shared memory of a fixed size: where each array of it begins.
        self.fixed, self.fixed_bytes = {}, 0
        for found in re.finditer(r"\.shared \.align \d+ \.b8 (\w+)\[(\d+)\];", body):
            self.fixed[found[1]] = self.fixed_bytes
            self.fixed_bytes += int(found[2])

    def register(self, operand):
        """Its name in C++, if the operand is a register."""
        found = re.fullmatch(r"%((?:rd|rs|fd|r|f|p)\d+|tmp|temp)", operand.strip())
        return found and found[1]

    def value(self, operand, kind):
        """An operand as a number of a type."""
        operand, of = operand.strip(), TYPES[kind]
        special = re.fullmatch(r"%(tid|ctaid|ntid|nctaid)\.([xyz])", operand)
        if special:
            return f"uint32_t({SPECIAL[special[1]]}.{special[2]})"
        if self.register(operand):
            return f"ptx::as<{of}>({self.register(operand)})"
        if operand.startswith("0f"):
            return f"ptx::as<{of}>(uint32_t(0x{operand[2:]}u))"
        if operand.startswith("0d"):
            return f"ptx::as<{of}>(uint64_t(0x{operand[2:]}ull))"
        if re.fullmatch(r"-?\d+", operand):
            return f"{of}({operand}{'ll' if int(operand) < 2**63 else 'ull'})"
        if operand in self.fixed:
            return f"{of}({self.fixed[operand]})"
        # Shared memory of the launch begins at 0. What an assertion says is at 0 too, where nothing can be read.
        if operand in self.of_launch or re.fullmatch(r"\$str[\w$]*|__unnamed_\d+", operand):
            return f"{of}(0)"
        raise SystemExit(f"{self.name}: unknown operand {operand}")

    def assign(self, to, kind, expression):
        name = self.register(to)
        of = REGISTERS[re.match("[a-z]+", name)[0]]
        return f"{name} = ptx::as<{of}>({TYPES[kind]}({expression}));"

    def address(self, operand):
        base, offset = re.fullmatch(r"\[([%\w]+)(?:\+(-?\d+))?\]", operand).groups()
        return f"{self.value(base, 'u64')} + ({offset or 0}ll)"

    def memory(self, parts, address, written):
        """A pointer to what is read or written, and how many numbers that is."""
        space = parts[1] if parts[1] in ("global", "shared") else "generic"
        count = {"v2": 2, "v4": 4}.get(parts[-2], 1)
        of = TYPES[parts[-1]]
        flags = f"{'true' if 'nc' in parts else 'false'}, {'true' if written else 'false'}"
        place = f"ptx::{space}({self.address(address)}, sizeof({of}) * {count}, {self.fixed_bytes}, {flags})"
        return f"auto *memory = static_cast<{of} *>({place});"

    def statement(self, line):
        """An instruction without its predicate."""
        code, _, rest = line.replace("\t", " ").partition(" ")
        operands = [part.strip() for part in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", rest)]
        parts = code.split(".")
        name, kind = parts[0], parts[-1]
        if name == "bra":
            return f"goto {operands[0][1:]};"
        if name == "ret":
            return "return;"
        if name == "assertfail":
            return 'player::refuse("has an assertion that fails");'
        to = operands[0]
        if name == "ld" and parts[1] == "param":
            number = re.search(r"_param_(\d+)", operands[1])[1]
            whole = f"parameters[{number}]"
            return self.assign(to, kind, whole if kind[1:] == "64" else f"ptx::as<{TYPES[kind]}>(uint32_t({whole}))")
        if name == "ld":
            into = [part.strip() for part in to.strip("{}").split(",")]
            # A number of 16 bits may be read into a wider register.
            loads = " ".join(f"{self.register(part)} = memory[{i}];" for i, part in enumerate(into))
            if kind in ("b32", "b64"):
                loads = " ".join(self.assign(part, kind, f"memory[{i}]") for i, part in enumerate(into))
            return f"{self.memory(parts, operands[1], False)} {loads}"
        if name == "st":
            of = [part.strip() for part in operands[1].strip("{}").split(",")]
            narrow = kind in ("u8", "u16", "b16")
            values = [f"{TYPES[kind]}({self.register(part)})" if narrow else self.value(part, kind) for part in of]
            stores = " ".join(f"memory[{i}] = {value};" for i, value in enumerate(values))
            return f"{self.memory(parts, operands[0], True)} {stores}"
        if name == "cvta":
            window = " + ptx::WINDOW" if "shared" in parts and "to" not in parts else ""
            return self.assign(to, "u64", self.value(operands[1], "u64") + window)
        if name == "setp":
            return f"{self.register(to)} = {self.comparison(code, parts, operands)};"
        if name == "cvt":
            return self.assign(to, parts[-2], self.converted(code, parts, operands[1]))
        if name in ("mul", "mad") and parts[1] == "wide":
            wide = kind[0] + str(2 * int(kind[1:]))
            factors = [f"{TYPES[wide]}({self.value(operand, kind)})" for operand in operands[1:3]]
            added = [self.value(operand, wide) for operand in operands[3:]]
            return self.assign(to, wide, " + ".join([" * ".join(factors), *added]))
        if name == "mov" and "{" in to:
            # A number taken apart, the lower half first.
            half = f"b{int(kind[1:]) // 2}"
            whole, halves = self.value(operands[1], kind), [part.strip() for part in to.strip("{}").split(",")]
            taken = [self.assign(part, half, f"whole >> {i * int(half[1:])}") for i, part in enumerate(halves)]
            return f"const {TYPES[kind]} whole = {whole}; {' '.join(taken)}"
        if name == "mov" and "{" in rest:
            half = f"b{int(kind[1:]) // 2}"
            low, high = [self.value(part, half) for part in operands[1].strip("{}").split(",")]
            return self.assign(to, kind, f"{low} | {TYPES[kind]}({high}) << {half[1:]}")
        if name == "shfl":
            call = {"bfly": "__shfl_xor_sync", "idx": "__shfl_sync"}[parts[2]]
            value, of, _, lanes = operands[1:]
            shuffle = f"{call}({self.value(lanes, 'u32')}, {self.value(value, 'b32')}, int({self.value(of, 'u32')}))"
            return self.assign(to.split("|")[0], "b32", shuffle)
        if code == "bar.warp.sync":
            return f"__syncwarp({self.value(to, 'u32')});"
        if code in ("bar.sync", "barrier.sync"):
            return "__syncthreads();"
        if code == "bar.red.or.pred":
            return f"{self.register(to)} = __syncthreads_or({self.register(operands[2])}) != 0;"
        if name == "atom":
            call = {"min": "atomicMin", "max": "atomicMax", "add": "atomicAdd"}[parts[2]]
            of = TYPES[kind]
            place = f"ptx::global({self.address(operands[1])}, sizeof({of}), 0, false, true)"
            number = f"{of}({self.value(operands[2], kind)})"
            return self.assign(to, kind, f"{call}(static_cast<{of} *>({place}), {number})")
        return self.assign(to, kind, self.computed(code, parts, operands))

    def comparison(self, code, parts, operands):
        how, kind = parts[1], parts[2]
        left, right = self.value(operands[1], kind), self.value(operands[2], kind)
        if len(parts) == 3 and how in COMPARISONS and (how != "ne" or kind[0] != "f"):
            return f"{left} {COMPARISONS[how]} {right}"
        # Also true where one is no number.
        if len(parts) == 3 and how[:-1] in OPPOSITES and how[-1] == "u":
            return f"!({left} {OPPOSITES[how[:-1]]} {right})"
        raise SystemExit(f"{self.name}: unknown comparison {code}")

    def converted(self, code, parts, operand):
        value = self.value(operand, parts[-1])
        if parts[1:] == ["sat", "f32", "f32"]:
            return f"ptx::saturated({value})"
        if parts[1:] == ["rn", "bf16", "f32"]:
            return f"ptx::as_bf16({value})"
        if parts[1:] == ["f32", "bf16"]:
            return f"ptx::as<float>(uint32_t({value}) << 16)"
        if "bf16" in parts:
            raise SystemExit(f"{self.name}: unknown conversion {code}")
        if parts[1] in ROUNDINGS and len(parts) == 4 and parts[3] in ("f32", "f64"):
            rounded = f"{ROUNDINGS[parts[1]]}({value})"
            if parts[2] == parts[3]:
                return rounded
            if parts[2][0] in "us":
                return f"ptx::as_integer<{TYPES[parts[2]]}>({rounded})"
        elif len(parts) == 3 or parts[1] == "rn":
            return f"{TYPES[parts[-2]]}({value})"
        raise SystemExit(f"{self.name}: unknown conversion {code}")

    def computed(self, code, parts, operands):
        """What an instruction makes of numbers."""
        name, kind = parts[0], parts[-1]
        of = TYPES[kind]
        values = [self.value(operand, kind) for operand in operands[1:4 if name != "selp" else 3]]
        if name == "mov":
            return values[0]
        if name == "selp":
            return f"{self.register(operands[3])} ? {values[0]} : {values[1]}"
        if name in BITWISE:
            return f"{values[0]} {BITWISE[name]} {values[1]}"
        if name == "not":
            return f"!{values[0]}" if kind == "pred" else f"~{values[0]}"
        if kind in ("f32", "f64"):
            known = {
                "add.f32": "{} + {}", "add.rn.f32": "{} + {}", "add.rn.f64": "{} + {}", "add.f64": "{} + {}",
                "sub.f32": "{} - {}", "sub.rn.f32": "{} - {}", "sub.rn.f64": "{} - {}",
                "mul.rn.f32": "{} * {}", "mul.rn.f64": "{} * {}", "div.rn.f32": "{} / {}", "div.rn.f64": "{} / {}",
                "fma.rn.f32": "fmaf({}, {}, {})", "fma.rm.f32": "ptx::fma_down({}, {}, {})",
                "rcp.rn.f32": "1.0f / {}", "rcp.approx.ftz.f32": "1.0f / {}", "ex2.approx.ftz.f32": "exp2f({})",
                "lg2.approx.ftz.f32": "log2f({})", "sqrt.rn.f32": "sqrtf({})", "neg.f32": "-{}", "abs.f32": "fabsf({})",
                "max.f32": "fmaxf({}, {})", "min.f32": "fminf({}, {})", "copysign.f32": "copysignf({1}, {0})",
                "mul.f32": "{} * {}", "mul.f64": "{} * {}", "sub.f64": "{} - {}", "fma.rn.f64": "fma({}, {}, {})",
                "rcp.rn.f64": "1.0 / {}", "rcp.approx.ftz.f64": "1.0 / {}", "sqrt.rn.f64": "sqrt({})", "neg.f64": "-{}",
                "abs.f64": "fabs({})", "max.f64": "fmax({}, {})", "min.f64": "fmin({}, {})",
                "copysign.f64": "copysign({1}, {0})", "rsqrt.approx.f32": "1.0f / sqrtf({})",
            }  # fmt: skip
            if code in known:
                return known[code].format(*values)
        elif name in ("min", "max"):
            return f"({values[0]} {'<' if name == 'min' else '>'} {values[1]} ? {values[0]} : {values[1]})"
        elif name in ("add", "sub") or code == f"mul.lo.{kind}":
            sign = {"add": "+", "sub": "-", "mul": "*"}[name]
            return f"uint64_t({values[0]}) {sign} uint64_t({values[1]})"
        elif code == f"mad.lo.{kind}":
            return f"uint64_t({values[0]}) * uint64_t({values[1]}) + uint64_t({values[2]})"
        elif name in ("div", "rem"):
            return f"{values[0]} {'/' if name == 'div' else '%'} {values[1]}"
        elif name == "neg":
            return f"-{values[0]}"
        elif name in ("shl", "shr"):
            bits = self.value(operands[2], "u32")
            least = f"{values[0]} < 0 ? {of}(-1) : {of}(0)" if kind[0] == "s" else f"{of}(0)"
            shifted = f"{of}({values[0]} {'<<' if name == 'shl' else '>>'} {bits})"
            return f"({bits} < 8 * sizeof({of}) ? {shifted} : ({least}))"
        elif code == "shf.l.wrap.b32":
            return f"(((uint64_t({values[1]}) << 32) | {values[0]}) << ({values[2]} & 31)) >> 32"
        elif code in ("bfi.b32", "bfi.b64"):
            start, length = self.value(operands[3], "u32"), self.value(operands[4], "u32")
            mask = f"(((uint64_t(1) << {length}) - 1) << {start})"
            return f"((uint64_t({values[0]}) << {start}) & {mask}) | ({values[1]} & ~{mask})"
        raise SystemExit(f"{self.name}: unknown instruction {code}")

    def function(self, head=None):
        """The whole kernel as a function of C++."""
        lines = [head or f"inline void {self.name}(const uint64_t *parameters)", "{", "(void)parameters;"]
        for found in re.finditer(r"\.reg \.\w+\s+%([a-z]+)<(\d+)>;", self.body):
            names = ", ".join(f"{found[1]}{i}{{}}" for i in range(int(found[2])))
            lines.append(f"{REGISTERS[found[1]]} {names};")
        for line in self.body.split("\n"):
            line = line.split("//")[0].strip()
            own = re.fullmatch(r"\.reg \.\w+\s+%([a-z]+)(\d*);", line)
            guarded = re.fullmatch(r"@(!?)%(p\d+)\s+(.*);", line)
            if own:
                lines.append(f"{REGISTERS[own[1]]} {own[1]}{own[2]}{{}};")
            elif line in ("{", "}"):
                lines.append(line)
            elif line.endswith(":"):
                lines.append(f"{line[1:-1]}:;")
            elif guarded:
                lines.append(f"if ({guarded[1]}{guarded[2]}) {{ {self.statement(guarded[3])} }}")
            elif line and not line.startswith("."):
                lines.append(f"{{ {self.statement(line.rstrip(';'))} }}")
        return "\n".join([*lines, "}"])


def main():
    if len(sys.argv) not in (3, 4):
        raise SystemExit("expected: ptx.py FILE.ptx FILE.h [KERNEL]")
    with open(sys.argv[1]) as file:
        text = file.read()
    found = re.finditer(r"\.visible \.entry (\w+)\(.*?\).*?\n\{(.*?)\n\}", text, re.S)
    # Names of the shared memory that a launch brings.
    of_launch = set(re.findall(r"\.extern \.shared [^;]*?(\w+)\[\];", text))
    kernels = [Kernel(entry[1], entry[2], of_launch) for entry in found]
    if len(sys.argv) == 4:
        # Alone, under a name that is always the same.
        one = next(kernel for kernel in kernels if kernel.name == sys.argv[3])
        with open(sys.argv[2], "w") as file:
            file.write("// Made by ptx.py.\n" + one.function('extern "C" void played_entry(const uint64_t *parameters)') + "\n")
        return
    functions = "\n\n".join(kernel.function() for kernel in kernels)
    table = ", ".join(f'{{"{kernel.name}", {kernel.name}}}' for kernel in kernels)
    with open(sys.argv[2], "w") as file:
        file.write("// Made by ptx.py.\nnamespace ptx\n{\n\n" + functions + "\n\n")
        file.write(f"inline const std::map<std::string, Kernel> KERNELS = {{{table}}};\n\n}} // namespace ptx\n")
    print(f"{len(kernels)} kernels")


if __name__ == "__main__":
    main()
