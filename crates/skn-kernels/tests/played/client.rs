//! A client of the player that knows arrays which a kernel reads and writes; the library's own knows outputs. And tests that the
//! player tells of launches and kernels that are wrong.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

use crate::compile;

/// Threads ascending, descending, and mixed with arrays that are not aligned.
pub(crate) const ORDERS: [u32; 3] = [0, 1, 258];

/// Little-endian bytes of numbers.
pub(crate) trait Number: Sized {
    fn bytes(numbers: &[Self]) -> Vec<u8>;
}

macro_rules! number {
    ($($type:ty)*) => {
        $(impl Number for $type {
            fn bytes(numbers: &[Self]) -> Vec<u8> {
                numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
            }
        })*
    };
}

number!(u8 u32 u64 f32);

#[derive(Clone)]
pub(crate) enum Argument {
    Nothing,
    Read(Vec<u8>),
    /// So many bytes.
    Write(usize),
    ReadWrite(Vec<u8>),
    U32(u32),
    U64(u64),
}

use Argument::{Nothing, ReadWrite, U32, U64};

pub(crate) fn read(numbers: &[impl Number]) -> Argument {
    Argument::Read(Number::bytes(numbers))
}

pub(crate) struct Player {
    child: Child,
    /// Until it is to end.
    input: Option<ChildStdin>,
    output: ChildStdout,
}

/// The arrays that a kernel wrote, or what is wrong with it.
type Answer = Result<Vec<Vec<u8>>, String>;

impl Player {
    /// Nothing where there is no C++ compiler.
    pub(crate) fn start() -> Option<Self> {
        let mut command = Command::new(compile::program()?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Some(Self { child, input, output })
    }

    /// Runs a kernel by blocks of so many threads, each with 4 bytes of shared memory.
    pub(crate) fn call(
        &mut self,
        kernel: &str,
        grid: [usize; 3],
        block: u32,
        order: u32,
        arguments: &[Argument],
    ) -> Answer {
        let mut request = u32::bytes(&[kernel.len() as u32]);
        request.extend(kernel.as_bytes());
        let ([x, y, z], count) = (grid.map(|blocks| blocks as u32), arguments.len() as u32);
        request.extend(u32::bytes(&[x, y, z, block, 4 * block, order, count]));
        for argument in arguments {
            let with_length = |bytes: &[u8]| [&u64::bytes(&[bytes.len() as u64]), bytes].concat();
            let (tag, payload) = match argument {
                Nothing => (0, Vec::new()),
                Argument::Read(bytes) => (1, with_length(bytes)),
                Argument::Write(bytes) => (2, u64::bytes(&[*bytes as u64])),
                ReadWrite(bytes) => (3, with_length(bytes)),
                U32(number) => (4, u32::bytes(&[*number])),
                U64(number) => (5, u64::bytes(&[*number])),
            };
            request.push(tag);
            request.extend(payload);
        }
        self.answer(&request, arguments).unwrap_or_else(|error| {
            let (_, said) = self.end().unwrap();
            Err(format!("{kernel}: the player has ended: {error}\n{said}"))
        })
    }

    fn answer(&mut self, request: &[u8], arguments: &[Argument]) -> io::Result<Answer> {
        self.input.as_mut().unwrap().write_all(request)?;
        if self.read(1)? != [0] {
            let length = u32::from_le_bytes(self.read(4)?.try_into().unwrap());
            return Ok(Err(String::from_utf8(self.read(length as usize)?).unwrap()));
        }
        let lengths = arguments.iter().filter_map(|argument| match argument {
            Argument::Write(bytes) => Some(*bytes),
            ReadWrite(bytes) => Some(bytes.len()),
            _ => None,
        });
        lengths.map(|length| self.read(length)).collect::<io::Result<_>>().map(Ok)
    }

    fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.output.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// How it ended and what it said beside its answers, once.
    fn end(&mut self) -> Option<(ExitStatus, String)> {
        let (_, mut stderr) = (self.input.take(), self.child.stderr.take()?);
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        Some((self.child.wait().unwrap(), said))
    }
}

impl Drop for Player {
    /// A sanitizer says some things without ending it.
    fn drop(&mut self) {
        if let (Some((status, said)), false) = (self.end(), thread::panicking()) {
            let right = status.success() && !said.contains("runtime error");
            assert!(right, "the player: {status}\n{said}");
        }
    }
}

#[test]
fn a_launch_that_is_wrong_is_told() {
    let Some(mut player) = Player::start() else { return };
    let right = [ReadWrite(vec![0; 8]), read(&[1f32, 4.0]), read(&[3f32, 0.5]), U64(2), U32(0)];
    let mut told = |kernel: &str, grid, block, arguments: &[Argument], expected: &str| {
        assert_eq!(player.call(kernel, grid, block, 0, arguments), Err(expected.into()));
    };
    told("gate", [1, 1, 1], 256, &right, "unknown kernel gate");
    let mut told = |grid, block, arguments: &[Argument], expected: &str| {
        let kernel = "activation_gradient";
        told(kernel, grid, block, arguments, &format!("{kernel}: {expected}"));
    };
    told([1, 1, 1], 256, &right[..2], "expected 5 arguments, found 2");
    told([1, 1, 1], 1025, &right, "a block of 1025 threads, expected 1 to 1024");
    told([1, 65_536, 1], 256, &right, "a grid that no card takes");
    let to_write = "expected an array to write or a null pointer, found";
    let to_read = "expected an array to read or a null pointer, found";
    for (place, wrong, expected) in [
        (0, read(&[0u64]), format!("{to_write} an array to read of 8 bytes")),
        (0, ReadWrite(vec![0; 6]), format!("{to_write} an array to read and write of 6 bytes")),
        (1, Argument::Write(8), format!("{to_read} an array to write of 8 bytes")),
        (1, read(&[0u8; 7]), format!("{to_read} an array to read of 7 bytes")),
        (1, U64(2), format!("{to_read} a u64")),
        (3, U32(2), "expected a u64, found a u32".into()),
        (3, Nothing, "expected a u64, found a null pointer".into()),
    ] {
        let mut arguments = right.clone();
        arguments[place] = wrong;
        told([1, 1, 1], 256, &arguments, &format!("argument {place}: {expected}"));
    }
    let found = player.call("activation_gradient", [1, 1, 1], 256, 0, &right);
    assert_eq!(found, Ok(vec![f32::bytes(&[3.0, 0.5])]), "the player goes on");
}

#[test]
fn kernels_that_do_wrong_are_told() {
    let Some(mut player) = Player::start() else { return };
    let arguments = |number| [Argument::Write(4 * 64), U32(number)];
    let mut neighbours = |with_barrier| {
        let call = |order| player.call("player_neighbours", [1, 1, 1], 64, order, &arguments(with_barrier));
        ORDERS.map(call).map(|found| found.unwrap().swap_remove(0))
    };
    let expected: Vec<u32> = (1..64).chain([0]).collect();
    assert_eq!(neighbours(1), [(); 3].map(|()| u32::bytes(&expected)));
    let [ascending, descending, mixed] = neighbours(0);
    assert!(ascending != descending && ascending != mixed && descending != mixed);

    let mut told = |kernel: &str, arguments: &[Argument], expected: &str| {
        let found = player.call(kernel, [1, 1, 1], 64, 0, arguments).unwrap_err();
        assert!(found.starts_with(kernel) && found.contains(expected), "{found}");
    };
    let alone = |thread, came_to| {
        let first = format!("thread {thread} of block (0, 0, 0) came to {came_to}");
        format!("a barrier that not all threads reach: {first}, thread 40 to its end")
    };
    told("player_lone_barrier", &arguments(40), &alone(0, "__syncthreads"));
    // The first of its warp.
    told("player_lone_shuffle", &arguments(40), &alone(32, "a shuffle"));
    let in_table = "came to __syncthreads, but its kernel stands in the table as one without";
    told("player_hidden_barrier", &arguments(0)[..1], in_table);
    // What all threads reach, and what fits, is right, and the player goes on.
    for (kernel, number) in [("player_lone_barrier", 64), ("player_overrun", 0)] {
        assert!(player.call(kernel, [1, 1, 1], 64, 0, &arguments(number)).is_ok(), "{kernel}");
    }
    // An AddressSanitizer ends the program where it happens.
    let found = player.call("player_overrun", [1, 1, 1], 1, 0, &arguments(64)).unwrap_err();
    let told = ["player_overrun: wrote beside argument 0", "AddressSanitizer: heap-buffer-overflow"];
    assert!(told.iter().any(|told| found.contains(told)), "{found}");
}
