//! The host in place of a GPU: a program that plays blocks and threads runs the same kernels, launch by launch.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::{CpuStorage, DType, Error, Result, Storage, bail};
use half::bf16;

use super::launch::{Argument, Launch, Made, Output};
use crate::cpu::with_slices;

static PLAYERS: OnceLock<Players> = OnceLock::new();

/// From now on, has a program play the kernels of GPUs, and computes every operation on CPU tensors by them, in the whole
/// process. It is for tests on machines without a card, and slow.
///
/// The program is `tests/host/player.cpp` of this crate, compiled. Each launch is run with a block's threads in two
/// orders: results that differ are an error, because on a card the order is any.
///
/// # Errors
/// If the program can't be started, or this was called before.
pub fn play_on_host(program: &Path) -> io::Result<()> {
    let free = Mutex::new(vec![Player::start(program)?]);
    let players = Players { program: program.to_owned(), free };
    PLAYERS.set(players).map_err(|_| io::Error::other("a player is there already"))
}

/// Whether CPU tensors are computed by the kernels of GPUs.
pub(crate) fn plays() -> bool {
    PLAYERS.get().is_some()
}

/// As many as threads ever launched at a time: an answer belongs to the question before it.
struct Players {
    program: PathBuf,
    /// Those that wait for a launch.
    free: Mutex<Vec<Player>>,
}

impl Players {
    fn take(&self) -> io::Result<Player> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.map_or_else(|| Player::start(&self.program), Ok)
    }

    fn give_back(&self, player: Player) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(player);
    }
}

struct Player {
    // Ends when its standard input does.
    _child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// In which order the threads of a block run between two barriers: ascending, and shuffled with all numbers 8 bytes behind a
/// multiple of 16, where a kernel can't read four of them at once.
const ORDERS: [u32; 2] = [0, 258];

/// What comes before an argument's value.
mod tag {
    pub(super) const NOTHING: u8 = 0;
    pub(super) const READ: u8 = 1;
    pub(super) const WRITTEN: u8 = 2;
    pub(super) const READ_AND_WRITTEN: u8 = 3;
    pub(super) const U32: u8 = 4;
    pub(super) const U64: u8 = 5;
    pub(super) const F32: u8 = 6;
}

/// Runs a kernel, and gives what it wrote.
pub(super) fn launch(launch: Launch) -> Result<Vec<Option<Made>>> {
    let Some(players) = PLAYERS.get() else {
        bail!("{}: no program plays the kernels of GPUs", launch.kernel);
    };
    let none = |error: io::Error| Error::Msg(format!("{}: no player starts: {error}", launch.kernel));
    let mut player = players.take().map_err(none)?;
    let mut first: Option<Vec<Option<CpuStorage>>> = None;
    for order in ORDERS {
        let found = player.call(&request(&launch, order)?, &launch)?;
        match &first {
            None => first = Some(found),
            Some(first) if same_bits(first, &found) => {}
            Some(_) => {
                bail!(
                    "{}: another order of threads gives another result: a barrier is missing",
                    launch.kernel
                )
            }
        }
    }
    players.give_back(player);
    let written = first.into_iter().flatten().zip(launch.outputs);
    let made = |(storage, output): (Option<CpuStorage>, Output)| {
        let shape = match output {
            Output::Nothing => return None,
            Output::New(_, shape) => shape,
            Output::GoesOn(made) => made.shape,
        };
        Some(Made { storage: Storage::Cpu(storage?), shape })
    };
    Ok(written.map(made).collect())
}

fn same_bits(a: &[Option<CpuStorage>], b: &[Option<CpuStorage>]) -> bool {
    let same = |a: &Option<CpuStorage>, b: &Option<CpuStorage>| match (a, b) {
        (Some(CpuStorage::F32(a)), Some(CpuStorage::F32(b))) => {
            // What is no number may carry other bits each time.
            let bit = |value: &f32| if value.is_nan() { u32::MAX } else { value.to_bits() };
            a.iter().map(bit).eq(b.iter().map(bit))
        }
        (Some(CpuStorage::BF16(a)), Some(CpuStorage::BF16(b))) => {
            let bit = |value: &bf16| if value.is_nan() { u16::MAX } else { value.to_bits() };
            a.iter().map(bit).eq(b.iter().map(bit))
        }
        (Some(CpuStorage::U8(a)), Some(CpuStorage::U8(b))) => a == b,
        (Some(CpuStorage::U32(a)), Some(CpuStorage::U32(b))) => a == b,
        (Some(CpuStorage::I64(a)), Some(CpuStorage::I64(b))) => a == b,
        (None, None) => true,
        _ => false,
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// Numbers as bytes, little-endian.
fn bytes_of(storage: &Storage) -> Result<Vec<u8>> {
    Ok(match storage {
        Storage::Cpu(CpuStorage::U8(values)) => values.clone(),
        Storage::Cpu(CpuStorage::U32(values)) => {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        Storage::Cpu(CpuStorage::I64(values)) => {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        Storage::Cpu(CpuStorage::F32(values)) => {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        _ => bail!("the player goes on from no numbers of {:?}", storage.dtype()),
    })
}

/// Bytes as numbers.
fn numbers_of(bytes: Vec<u8>, dtype: DType) -> Result<CpuStorage> {
    let four = || bytes.as_chunks::<4>().0.iter();
    Ok(match dtype {
        DType::U32 => CpuStorage::U32(four().map(|bytes| u32::from_le_bytes(*bytes)).collect()),
        DType::F32 => CpuStorage::F32(four().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        DType::I64 => {
            let eight = bytes.as_chunks::<8>().0.iter();
            CpuStorage::I64(eight.map(|bytes| i64::from_le_bytes(*bytes)).collect())
        }
        DType::BF16 => {
            let two = bytes.as_chunks::<2>().0.iter();
            CpuStorage::BF16(two.map(|bytes| bf16::from_le_bytes(*bytes)).collect())
        }
        DType::U8 => CpuStorage::U8(bytes),
        _ => bail!("the player writes no numbers of {dtype:?}"),
    })
}

fn request(launch: &Launch, order: u32) -> Result<Vec<u8>> {
    let mut to = Vec::new();
    let count = launch.outputs.len() + launch.arguments.len();
    to.extend((launch.kernel.len() as u32).to_le_bytes());
    to.extend(launch.kernel.as_bytes());
    let [x, y, z] = launch.grid;
    for number in [x, y, z, launch.block, launch.shared, order, count as u32] {
        to.extend(number.to_le_bytes());
    }
    for output in &launch.outputs {
        match output {
            Output::Nothing => to.push(tag::NOTHING),
            Output::New(dtype, shape) => {
                to.push(tag::WRITTEN);
                to.extend(((shape.elem_count() * dtype.size_in_bytes()) as u64).to_le_bytes());
            }
            Output::GoesOn(made) => {
                let bytes = bytes_of(&made.storage)?;
                to.push(tag::READ_AND_WRITTEN);
                to.extend((bytes.len() as u64).to_le_bytes());
                to.extend(bytes);
            }
        }
    }
    for argument in &launch.arguments {
        match argument {
            Argument::Nothing => to.push(tag::NOTHING),
            Argument::U32(number) => {
                to.push(tag::U32);
                to.extend(number.to_le_bytes());
            }
            Argument::U64(number) => {
                to.push(tag::U64);
                to.extend(number.to_le_bytes());
            }
            Argument::F32(number) => {
                to.push(tag::F32);
                to.extend(number.to_le_bytes());
            }
            Argument::Tensor(tensor) => {
                to.push(tag::READ);
                to.extend((tensor.elem_count() as u64 * 4).to_le_bytes());
                if tensor.dtype() == DType::U32 {
                    let numbers = tensor.flatten_all()?.to_vec1::<u32>()?;
                    numbers.iter().for_each(|number| to.extend(number.to_le_bytes()));
                } else {
                    with_slices([tensor], |[values]| {
                        values.iter().for_each(|value| to.extend(value.to_le_bytes()));
                        Ok(())
                    })?;
                }
            }
        }
    }
    Ok(to)
}

impl Player {
    fn start(program: &Path) -> io::Result<Self> {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the player has no standard input or output"));
        };
        Ok(Self { _child: child, input: BufWriter::new(input), output: BufReader::new(output) })
    }

    fn call(&mut self, request: &[u8], launch: &Launch) -> Result<Vec<Option<CpuStorage>>> {
        let broken =
            |error: io::Error| Error::Msg(format!("{}: the player has ended: {error}", launch.kernel));
        self.input.write_all(request).and_then(|()| self.input.flush()).map_err(broken)?;
        let mut status = [0u8];
        self.output.read_exact(&mut status).map_err(broken)?;
        if status != [0] {
            let message = self.message().map_err(broken)?;
            bail!("{}: {message}", launch.kernel);
        }
        let mut read = |dtype: DType, count: usize| {
            let mut bytes = vec![0u8; count * dtype.size_in_bytes()];
            self.output.read_exact(&mut bytes).map_err(broken)?;
            numbers_of(bytes, dtype).map(Some)
        };
        let outputs = launch.outputs.iter().map(|output| match output {
            Output::Nothing => Ok(None),
            Output::New(dtype, shape) => read(*dtype, shape.elem_count()),
            Output::GoesOn(made) => read(made.storage.dtype(), made.shape.elem_count()),
        });
        outputs.collect()
    }

    fn message(&mut self) -> io::Result<String> {
        let mut length = [0u8; 4];
        self.output.read_exact(&mut length)?;
        let mut bytes = vec![0u8; u32::from_le_bytes(length) as usize];
        self.output.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
