//! Whether a GPU computes what the CPU does, and how fast: one table. `scripts/gpu-check.sh` builds, packs and runs it.
//!
//! ```text
//! gpu_check [--device cuda|cuda:N|cpu] [--seed N] [--short] [--minutes N] [--golden FOLDER] [--programs FOLDER]
//!           [--peers COMMAND..]
//! ```
//!
//! - Each operation of `skn-kernels` on fresh random numbers, values and gradients, next to the CPU.
//! - What is made for a reader in bf16: the bits of what is rounded afterwards.
//! - What probing takes of activations on the device: the CPU's bits, and how fast.
//! - Passes that are replayed as CUDA graphs: the bits of plain ones.
//! - `--golden`: the golden case in this folder.
//! - RoBERTa-base's shape: logits and gradients next to the CPU, then times; `--peers`, last, is what starts
//!   `benches/peers/gpu.py`, to take turns with it.
//! - `--programs`: the demo's chain by the programs in this folder, next to the CPU.
//!
//! With `--device cpu` everything is compared with itself. `--short` takes less of everything, and a small model for timings. What is
//! not begun in `--minutes` (7) is left out. Exit codes: 0 all is right, 1 something is not, 2 usage, 5 there is no such device.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

mod chain;
mod difference;
mod golden;
mod graphs;
mod operations;
mod peers;
mod reductions;
mod rounded;
mod table;
mod timings;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use candle_core::{Device, Tensor};
use skn_model::{keep_candle_on_calling_thread, keep_freed_memory};

use crate::table::Table;

type Error = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Error>;

fn main() -> ExitCode {
    keep_candle_on_calling_thread();
    keep_freed_memory();
    let asked = match Asked::parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("gpu_check: {error}; see the head of benches/examples/gpu_check/main.rs");
            return ExitCode::from(2);
        }
    };
    match open(&asked.device) {
        Err(error) => {
            // A backtrace, where one is asked for, comes on lines of its own.
            let error = error.to_string();
            eprintln!("gpu_check: {}: {}", asked.device, error.lines().next().unwrap_or_default());
            ExitCode::from(5)
        }
        Ok(device) if asked.check(&device) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
    }
}

/// What the flags say.
#[derive(Debug)]
struct Asked {
    device: String,
    seed: u64,
    short: bool,
    minutes: f64,
    golden: Option<PathBuf>,
    programs: Option<PathBuf>,
    peers: Option<Vec<String>>,
}

impl Asked {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        // Fresh numbers each time; the table says which.
        let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let (device, minutes) = ("cuda".to_owned(), 7.0);
        let mut asked =
            Self { device, seed, short: false, minutes, golden: None, programs: None, peers: None };
        let mut arguments = arguments.into_iter();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag}: expected a value"));
            match flag.as_str() {
                "--device" => asked.device = value()?,
                "--seed" => asked.seed = value()?.parse()?,
                "--short" => asked.short = true,
                "--minutes" => asked.minutes = value()?.parse()?,
                "--golden" => asked.golden = Some(value()?.into()),
                "--programs" => asked.programs = Some(value()?.into()),
                "--peers" => asked.peers = Some(arguments.by_ref().collect()),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(asked)
    }

    /// Whether everything was right.
    fn check(&self, device: &Device) -> bool {
        let mut table = Table::new(Duration::from_secs_f64(self.minutes.clamp(0.0, 1e6) * 60.0));
        table.tell("device, seed", format!("{}, {}", self.device, self.seed), "");
        operations::check(&mut table, device, self.seed, self.short);
        rounded::check(&mut table, device, self.seed);
        reductions::check(&mut table, device, self.seed, self.short);
        graphs::check(&mut table, device, self.seed);
        if let Some(golden) = &self.golden {
            golden::check(&mut table, device, golden);
        }
        timings::check(&mut table, device, self.peers.as_deref(), self.short);
        if let Some(programs) = &self.programs {
            chain::check(&mut table, &self.device, programs);
        }
        table.finish()
    }
}

/// A device by its name.
fn open(name: &str) -> Result<Device> {
    let number = match name.split_once(':') {
        _ if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => 0,
        Some(("cuda", number)) => number.parse()?,
        _ => return Err("expected cpu, cuda or cuda:N".into()),
    };
    if !candle_core::utils::cuda_is_available() {
        return Err("built without CUDA; build with `--features cuda`".into());
    }
    Ok(Device::new_cuda(number)?)
}

/// The numbers of a tensor.
fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(line: &str) -> Result<Asked> {
        Asked::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags() {
        let asked =
            parse("--device cuda:1 --seed 7 --short --golden g --programs p --peers python3 gpu.py --x")
                .unwrap();
        assert_eq!((asked.device.as_str(), asked.seed, asked.short, asked.minutes), ("cuda:1", 7, true, 7.0));
        assert_eq!((asked.golden, asked.programs), (Some("g".into()), Some("p".into())));
        assert_eq!(asked.peers.unwrap(), ["python3", "gpu.py", "--x"]);
        assert!(parse("--seed").is_err() && parse("--seed x").is_err() && parse("--other").is_err());
    }

    #[test]
    fn devices() {
        assert!(open("cpu").unwrap().is_cpu());
        for wrong in ["gpu", "cuda:x", "tpu:0"] {
            assert!(open(wrong).is_err(), "{wrong}");
        }
    }

    /// The golden case and everything else on the CPU next to itself.
    #[test]
    fn the_cpu_is_right() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let mut asked = parse("--device cpu --short --seed 1").unwrap();
        asked.golden = Some(golden);
        assert!(asked.check(&Device::Cpu));
        // A case that is not there is no right one.
        asked.golden = Some("nowhere".into());
        assert!(!asked.check(&Device::Cpu));
    }
}
