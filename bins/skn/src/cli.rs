//! Flags that several programs share. Names of the original Python programs stay as aliases.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
pub use skn_program::{Common, ProgressKind};

use crate::exit::Failure;

/// Flags of programs that write into a run.
#[derive(Args, Clone, Debug)]
pub struct Destination {
    /// Folder to write to: the run
    #[arg(long = "out", visible_alias = "save_to", value_name = "RUN")]
    pub out: PathBuf,

    /// Replace files of this stage that exist
    #[arg(long)]
    pub force: bool,
}

/// Flags of programs that compute with a model.
#[derive(Args, Clone, Debug)]
pub struct Compute {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceName,

    /// Threads; the results are the same for any number
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// What the products of frozen weights are made in: f32, or bf16, for which weights take half the memory and products,
    /// on CPUs that have AVX512-BF16, half the time
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: Dtype,

    /// Seed of everything random
    #[arg(long = "seed", visible_alias = "random_seed", value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Numbers that products are made of.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits
    F32,
    /// bfloat16: rounded to 8 bits of precision
    Bf16,
}

impl Dtype {
    /// The library's name for it.
    pub fn precision(self) -> skn_model::Precision {
        match self {
            Self::F32 => skn_model::Precision::F32,
            Self::Bf16 => skn_model::Precision::Bf16,
        }
    }
}

/// The number of threads asked for, else as many as the machine has cores.
pub fn thread_count(asked: Option<NonZeroUsize>) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    asked.map_or_else(available, NonZeroUsize::get)
}

/// Which model, which task, which data.
#[derive(Args, Clone, Debug)]
pub struct Subject {
    /// Folder, owner/name[@revision] from the local Hugging Face cache, or demo
    #[arg(long, visible_alias = "load_backbone", value_name = "MODEL")]
    pub model: Option<String>,

    /// Task by name [default: the task of the run that is resumed from, else sst2]
    #[arg(long = "task", visible_alias = "task_type", value_name = "NAME")]
    pub task: Option<String>,

    /// Task described in a TOML file
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub task_file: Option<PathBuf>,

    /// Folder or file of the data set, or owner/name[@revision][:folder] from the local Hugging Face cache
    #[arg(long = "data", visible_alias = "data_path", value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// Most bytes of text to read, 64 more counted for each row: 500M, 16G [default: 4G, or as in the run that is
    /// resumed from]
    #[arg(long, value_name = "SIZE")]
    pub max_data: Option<Size>,

    /// Words of the verbalizer in class order, comma-separated [default: the task's]
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub verb: Option<Vec<String>>,

    /// Longest text in tokens, <s> and </s> included [default: what the model takes]
    #[arg(long, value_name = "N")]
    pub max_length: Option<NonZeroUsize>,

    /// Do as the published implementation did where it differs (paper)
    #[arg(long, value_name = "WHAT")]
    pub compat: Option<Compat>,
}

/// Whose behaviour to reproduce where ours differs by intent.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// The published Python implementation
    Paper,
}

/// Tuned parameters to load.
#[derive(Args, Clone, Debug)]
pub struct Tuned {
    /// Tuning method
    #[arg(long = "model_type", value_name = "METHOD", default_value = "RobertaPrompt")]
    pub model_type: ModelType,

    /// Prompt positions, the <mask> row counted [default: 16, or what the loaded prompt has]
    #[arg(long = "prompt_size", value_name = "P")]
    pub prompt_size: Option<NonZeroUsize>,

    /// Load tuned parameters from --resume_from
    #[arg(short = 'p', long = "from_pretrained")]
    pub from_pretrained: bool,

    /// Run or folder with tuned parameters: ours, PEFT's or AdapterHub's
    #[arg(long = "resume_from", value_name = "RUN")]
    pub resume_from: Option<PathBuf>,

    /// Put the <mask> row before a loaded prompt that does not start with it
    #[arg(long)]
    pub prepend_mask: bool,
}

/// How many texts a pass takes at once.
#[derive(Args, Clone, Copy, Debug)]
pub struct AtOnce {
    /// Texts at once, at most; changes no result [default: as many as 2048 rows hold]
    #[arg(long = "batch", visible_alias = "bz", value_name = "N")]
    batch: Option<NonZeroUsize>,
}

impl AtOnce {
    /// The most texts, if that is limited.
    pub fn texts(self) -> Option<usize> {
        self.batch.map(NonZeroUsize::get)
    }
}

/// A range of a model's layers.
#[derive(Args, Clone, Copy, Debug)]
pub struct Layers {
    /// First layer, from 0 [default: 0; when pruning a quarter of the layers stays whole, 3 of 12]
    #[arg(long = "low_layer", visible_alias = "lowlayer", value_name = "LAYER")]
    low: Option<usize>,

    /// One past the last layer [default: all]
    #[arg(long = "high_layer", visible_alias = "highlayer", value_name = "LAYER")]
    high: Option<usize>,
}

impl Layers {
    /// The layers asked for, of a model that has `all`; `first` is where the range begins unless it is said.
    ///
    /// # Errors
    /// If it is empty or goes beyond the model.
    pub fn of(self, all: usize, first: usize) -> anyhow::Result<Range<usize>> {
        let (low, high) = (self.low.unwrap_or(first), self.high.unwrap_or(all));
        if low < high && high <= all {
            return Ok(low..high);
        }
        Err(Failure::usage(format!(
            "--low_layer {low} --high_layer {high}: expected low < high <= {all}, the model's layers"
        )))
    }
}

/// A number of bytes, written with K, M or G for powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// What a data set may have unless the user says otherwise.
    pub const DATA: Self = Self(4 << 30);
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
            Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
            Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.filter(|bytes| *bytes > 0).map(Self).ok_or_else(|| "expected bytes, as 500M or 16G".to_owned())
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [(30, "G"), (20, "M"), (10, "K"), (0, "")];
        let (shift, unit) =
            units.into_iter().find(|(shift, _)| self.0.is_multiple_of(1 << shift)).unwrap_or_default();
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

/// Default number of prompt positions.
pub const PROMPT_SIZE: usize = 16;

/// The original's names of the tuning methods.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelType {
    /// A soft prompt
    #[value(name = "RobertaPrompt", alias = "prompt")]
    Prompt,
    /// BitFit: every bias
    #[value(name = "RobertaBias", alias = "bias")]
    Bias,
    /// Adapters after the FFN
    #[value(name = "RobertaAdapter", alias = "adapter")]
    Adapter,
    /// A soft prompt on a pruned model
    #[value(name = "RobertaPrunePrompt", alias = "prune-prompt")]
    PrunePrompt,
}

impl ModelType {
    /// The name that the original gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "RobertaPrompt",
            Self::Bias => "RobertaBias",
            Self::Adapter => "RobertaAdapter",
            Self::PrunePrompt => "RobertaPrunePrompt",
        }
    }

    /// The method of the library.
    pub fn method(self) -> skn_model::Method {
        match self {
            Self::Prompt | Self::PrunePrompt => skn_model::Method::Prompt,
            Self::Bias => skn_model::Method::Bias,
            Self::Adapter => skn_model::Method::Adapter,
        }
    }
}

/// A device as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// CUDA if the program has it and the machine too, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// A CUDA device by number
    Cuda(usize),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => {
                number.parse().map(Self::Cuda).map_err(|_| format!("cuda:{number}: expected a device number"))
            }
            _ => Err("expected auto, cpu, cuda or cuda:N".into()),
        }
    }
}

/// A part of a whole, as `--shard 2/8` names it: the second of eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts =
            text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((index, count)) if 1 <= index && index <= count => Ok(Self { index, count }),
            _ => Err("expected i/n with 1 <= i <= n, such as 2/8".into()),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// `-aa` of the original is two letters behind one dash, which no modern parser reads: it becomes
/// `--acc_aux_path`, whether its value follows as a word of its own, after `=`, or not at all.
pub fn rewrite_short_pairs(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Vec<std::ffi::OsString> {
    let rewrite = |argument: std::ffi::OsString| match argument.to_str() {
        Some("-aa") => "--acc_aux_path".into(),
        Some(text) => match text.strip_prefix("-aa=") {
            Some(value) => format!("--acc_aux_path={value}").into(),
            None => argument,
        },
        None => argument,
    };
    arguments.into_iter().map(rewrite).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_in_the_original() {
        assert_eq!("cuda:1".parse(), Ok(DeviceName::Cuda(1)));
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        assert!("gpu".parse::<DeviceName>().is_err() && "cuda:x".parse::<DeviceName>().is_err());
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for (text, size) in
            [("4G", Size::DATA), ("3M", Size(3 << 20)), ("1K", Size(1024)), ("5000", Size(5000))]
        {
            assert_eq!((text.parse(), size.to_string()), (Ok(size), text.into()));
        }
        for wrong in ["", "G", "0", "-1", "1T", "99999999999G"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shard_lies_within_its_count() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, count: 8 }));
        for wrong in ["0/8", "9/8", "2", "a/b", "2/", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_letters_behind_one_dash_are_rewritten() {
        let rewritten = rewrite_short_pairs(["skn-select", "-a", "x", "-aa", "y", "-aa=z"].map(Into::into));
        assert_eq!(rewritten, ["skn-select", "-a", "x", "--acc_aux_path", "y", "--acc_aux_path=z"]);
    }
}
