//! Flags that several programs share. Names of the original Python programs stay as aliases.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
pub use skn_program::{Common, ProgressKind};
use skn_session::options::{self, DeviceChoice, LayerRange, Size, TaskChoice, TunedMethod};
use skn_session::{DryRun, Precision, PromptPlace, Share};

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

/// Flag of programs that can be rehearsed.
#[derive(Args, Clone, Copy, Debug)]
pub struct Dry {
    /// Write nothing: tell what would be read and written, how long it takes and how much memory, from a rehearsal with some of the
    /// texts
    #[arg(long)]
    pub dry_run: bool,
}

impl Dry {
    /// Its help in programs that compute no model, so that there are no texts to take some of.
    pub(crate) const WITHOUT_TEXTS: &str = "Write nothing: do all but that, and tell what would be read and written, how long it takes and how much memory";

    /// What something would do, if that is asked.
    ///
    /// # Errors
    /// As `told`.
    pub(crate) fn of(self, told: impl FnOnce() -> anyhow::Result<DryRun>) -> anyhow::Result<Option<DryRun>> {
        self.dry_run.then(told).transpose()
    }
}

/// Flags of programs that compute with a model.
#[derive(Args, Clone, Debug)]
pub struct Compute {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = options::Compute::default().device)]
    pub device: DeviceChoice,

    /// Threads; the results are the same for any number
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// What the products of frozen weights are made in: f32; bf16, for which weights take half the memory and products, on CPUs
    /// that have AVX512-BF16, half the time; or tf32, on NVIDIA's GPUs alone
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: Dtype,
}

impl Compute {
    /// What a session is made with.
    pub fn options(&self) -> options::Compute {
        let mut compute = options::Compute::default();
        (compute.device, compute.threads) = (self.device, self.threads);
        compute.precision = match self.dtype {
            Dtype::F32 => Precision::F32,
            Dtype::Tf32 => Precision::Tf32,
            Dtype::Bf16 => Precision::Bf16,
        };
        compute
    }
}

/// Seed of programs that draw random numbers.
#[derive(Args, Clone, Copy, Debug)]
pub struct Seed {
    /// Seed of everything random
    #[arg(long = "seed", visible_alias = "random_seed", value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Numbers that products are made of.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits
    F32,
    /// TensorFloat-32: rounded to 11 bits of precision, on NVIDIA's GPUs alone
    Tf32,
    /// bfloat16: rounded to 8 bits of precision
    Bf16,
}

/// Which model, and which task.
#[derive(Args, Clone, Debug)]
pub struct ModelAndTask {
    /// Folder, GGUF file, owner/name[@revision] from the local Hugging Face cache, or demo [default: that of the run that is
    /// resumed from, else roberta-base]
    #[arg(long, visible_alias = "load_backbone", value_name = "MODEL")]
    pub model: Option<String>,

    /// Task by name [default: the task of the run that is resumed from, else sst2, of the demo sentiment]
    #[arg(long = "task", visible_alias = "task_type", value_name = "NAME")]
    pub task: Option<String>,

    /// Task described in a TOML file
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub task_file: Option<PathBuf>,

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

impl ModelAndTask {
    /// What a stage is asked, without data.
    pub fn options(&self, seed: u64) -> options::Subject {
        let mut subject = options::Subject::default();
        subject.model = self.model.clone();
        let named = self.task.as_deref().map(TaskChoice::from);
        subject.task = self.task_file.clone().map(TaskChoice::File).or(named);
        subject.words = self.verb.clone();
        subject.max_length = self.max_length;
        subject.paper = self.compat == Some(Compat::Paper);
        subject.seed = seed;
        subject
    }
}

/// Which model, which task, which data.
#[derive(Args, Clone, Debug)]
pub struct Subject {
    /// Model and task.
    #[command(flatten)]
    pub model_and_task: ModelAndTask,

    /// Folder or file of the data set, or owner/name[@revision][:folder] from the local Hugging Face cache
    #[arg(long = "data", visible_alias = "data_path", value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// Most bytes of text to read, 64 more counted for each row: 500M, 16G [default: 4G, or as in the run that is
    /// resumed from]
    #[arg(long, value_name = "SIZE")]
    pub max_data: Option<Size>,

    /// Its seed.
    #[command(flatten)]
    pub seed: Seed,
}

impl Subject {
    /// What a stage is asked.
    pub fn options(&self) -> options::Subject {
        let mut subject = self.model_and_task.options(self.seed.seed);
        (subject.data, subject.max_data) = (self.data.clone(), self.max_data);
        subject
    }
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
    /// Tuning method [default: that of the parameters in --resume_from, else RobertaPrompt]
    #[arg(long = "model_type", value_name = "METHOD")]
    pub model_type: Option<ModelType>,

    /// Prompt positions, the <mask> row counted [default: 16, or what the loaded prompt has]
    #[arg(long = "prompt_size", value_name = "P")]
    pub prompt_size: Option<NonZeroUsize>,

    /// A new prompt that is this text: the embeddings of its tokens, after the <mask> row, in place of one of chance
    #[arg(long = "prompt_text", value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt_text: Option<String>,

    /// Where a decoder's prompt stands: after the text, where its rows see it, or in front, as PEFT puts it [default: after, or
    /// where the loaded prompt stands]
    #[arg(long = "prompt_place", value_name = "PLACE")]
    pub prompt_place: Option<PromptPlace>,

    /// As the original has it: load tuned parameters from --resume_from, which does so by itself
    #[arg(short = 'p', long = "from_pretrained")]
    pub from_pretrained: bool,

    /// Run or folder with tuned parameters to load: ours, PEFT's or AdapterHub's. Model, method, prompt size, task and data are
    /// those of the run
    #[arg(long = "resume_from", value_name = "RUN")]
    pub resume_from: Option<PathBuf>,

    /// Put the <mask> row before a loaded prompt that does not start with it
    #[arg(long)]
    pub prepend_mask: bool,

    /// Answer with the label words although a classifier was saved with the tuned parameters
    #[arg(long)]
    pub verbalizer: bool,
}

impl Tuned {
    /// What a stage is asked.
    pub fn options(&self) -> options::Tuned {
        let mut tuned = options::Tuned::default();
        tuned.method = self.model_type.map(|ModelType(method)| method);
        tuned.prompt_size = self.prompt_size;
        tuned.load = self.from_pretrained || self.resume_from.is_some();
        (tuned.resume_from, tuned.prepend_mask) = (self.resume_from.clone(), self.prepend_mask);
        (tuned.verbalizer, tuned.prompt_place) = (self.verbalizer, self.prompt_place);
        tuned.prompt_text = self.prompt_text.clone();
        tuned
    }
}

/// How many texts a pass takes at once.
#[derive(Args, Clone, Copy, Debug)]
pub struct AtOnce {
    /// Texts at once, at most; changes no result [default: as many as 2048 rows hold]
    #[arg(long = "batch", visible_alias = "bz", value_name = "N")]
    pub batch: Option<NonZeroUsize>,
}

/// A range of a model's layers.
#[derive(Args, Clone, Copy, Debug)]
pub struct Layers {
    /// First layer, from 0
    #[arg(long = "low_layer", visible_alias = "lowlayer", value_name = "LAYER")]
    low: Option<usize>,

    /// One past the last layer [default: all]
    #[arg(long = "high_layer", visible_alias = "highlayer", value_name = "LAYER")]
    high: Option<usize>,
}

impl Layers {
    /// What a stage is asked.
    pub fn options(self) -> LayerRange {
        LayerRange { low_layer: self.low, high_layer: self.high }
    }
}

/// The original's names of the tuning methods, and short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelType(pub TunedMethod);

impl ValueEnum for ModelType {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [ModelType; 4] = [
            ModelType(TunedMethod::ALL[0]),
            ModelType(TunedMethod::ALL[1]),
            ModelType(TunedMethod::ALL[2]),
            ModelType(TunedMethod::ALL[3]),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (help, alias) = match self.0 {
            TunedMethod::Prompt => ("A soft prompt", "prompt"),
            TunedMethod::Bias => ("BitFit: every bias", "bias"),
            TunedMethod::Adapter => ("Adapters after the FFN", "adapter"),
            TunedMethod::PrunePrompt => ("A soft prompt on a pruned model", "prune-prompt"),
            _ => return None,
        };
        Some(PossibleValue::new(self.0.name()).help(help).alias(alias))
    }
}

/// Shares of each layer's neurons, which clap takes as one value: a list `0.01,0.05`, or `FROM..TO..STEP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares(pub Vec<Share>);

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = |text: &str| text.parse::<Share>().map_err(|error| error.to_string());
        match text.split("..").collect::<Vec<_>>()[..] {
            [from, to, step] => {
                let steps = Share::steps(share(from)?, share(to)?, share(step)?);
                steps.map(Self).map_err(|error| error.to_string())
            }
            [list] => list.split(',').map(share).collect::<Result<_, _>>().map(Self),
            _ => Err("expected a list or FROM..TO..STEP".into()),
        }
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
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
    fn shares_are_a_list_or_a_series() {
        let names = |text: &str| text.parse::<Shares>().unwrap().to_string();
        assert_eq!(names("0.05,0.010,.05"), "0.05,0.01,0.05");
        assert_eq!(names("0..0.2..0.01").split(',').count(), 21);
        for wrong in ["", "0..1", "0.1..0.2..0", "a", "2"] {
            assert!(wrong.parse::<Shares>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_letters_behind_one_dash_are_rewritten() {
        let rewritten = rewrite_short_pairs(["skn-select", "-a", "x", "-aa", "y", "-aa=z"].map(Into::into));
        assert_eq!(rewritten, ["skn-select", "-a", "x", "--acc_aux_path", "y", "--acc_aux_path=z"]);
    }
}
