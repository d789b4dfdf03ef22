//! `skn-pretrain`: make the embedded demo.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use anyhow::Result;
use clap::{Args, Parser};
use serde::Serialize;
use skn_session::options::{self, PretrainDemo};
use skn_session::{DryRun, Pretrained as Found};

use crate::cli::{Common, Destination, Dry};
use crate::program::{Call, Stage};

/// Make the embedded demo: its tokenizer, its tasks, and a RoBERTa pre-trained with masked language modelling.
///
/// Text is generated, so nothing is read. The defaults are the recipe of what data/ embeds. Tasks and tokenizer come out
/// byte for byte. Weights are the same bytes for the same program on the same instruction set, for any number of threads;
/// a change in the last bit of a matrix product makes others, of the same kind.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-pretrain", version)]
#[command(mut_arg("dry_run", |flag| flag.help("Write nothing: tell what would be written, how long it takes and how much memory, from some of \
                                               the steps")))]
pub struct Pretrain {
    #[command(flatten)]
    recipe: Recipe,
    #[command(flatten)]
    destination: Destination,
    /// Threads; the results are the same for any number
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

/// How to pre-train.
#[derive(Args, Clone, Debug)]
struct Recipe {
    /// Seed of text, weights and masks
    #[arg(long, value_name = "N", default_value_t = PretrainDemo::default().seed)]
    seed: u64,

    /// Steps of training
    #[arg(long, value_name = "N", default_value_t = PretrainDemo::default().steps)]
    steps: u64,

    /// Documents a step
    #[arg(long, value_name = "N", default_value_t = PretrainDemo::default().batch)]
    batch: u64,

    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = PretrainDemo::default().learning_rate)]
    lr: f64,

    /// Hidden size, attention heads, FFN width, layers
    #[arg(long, value_name = "H,A,F,L", default_value_t = Shape(PretrainDemo::default().shape))]
    shape: Shape,

    /// Steps between reports of how well label words are named
    #[arg(long, value_name = "N", default_value_t = PretrainDemo::default().report_every)]
    report_every: u64,

    /// Write the tokenizer and the tasks only
    #[arg(long)]
    without_model: bool,
}

/// Hidden size, attention heads, FFN width and layers, as they are typed.
#[derive(Clone, Copy, Debug)]
struct Shape([usize; 4]);

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<usize>>>();
        let four = numbers.and_then(|numbers| <[usize; 4]>::try_from(numbers).ok());
        four.map(Self)
            .ok_or_else(|| "expected four whole numbers with commas between, such as 64,2,160,4".into())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|number| number.to_string()).join(","))
    }
}

impl Pretrain {
    fn compute(&self) -> options::Compute {
        let mut compute = options::Compute::default();
        (compute.threads, compute.device) = (self.threads, options::DeviceChoice::Cpu);
        compute
    }

    fn options(&self) -> PretrainDemo {
        let mut demo = PretrainDemo::default();
        (demo.seed, demo.steps, demo.batch) = (self.recipe.seed, self.recipe.steps, self.recipe.batch);
        demo.learning_rate = self.recipe.lr;
        demo.shape = self.recipe.shape.0;
        (demo.report_every, demo.model) = (self.recipe.report_every, !self.recipe.without_model);
        (demo.out, demo.overwrite) = (self.destination.out.clone(), self.destination.force);
        demo
    }
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Pretrained(Found);

impl fmt::Display for Pretrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { folder, named, .. } = &self.0;
        let named: Vec<String> = named.iter().map(|(name, share)| format!("{name} {share:.2}")).collect();
        write!(f, "made {}", folder.display())?;
        if named.is_empty() {
            Ok(())
        } else {
            write!(f, "; label words named in context: {}", named.join(", "))
        }
    }
}

impl Stage for Pretrain {
    const PROGRAM: &'static str = "skn-pretrain";
    type Output = Pretrained;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        self.dry.of(|| Ok(call.session(self.compute())?.dry_pretrain(&self.options())?))
    }

    fn run(&self, call: &Call) -> Result<Pretrained> {
        Ok(Pretrained(call.session(self.compute())?.pretrain_demo(&self.options())?))
    }
}
