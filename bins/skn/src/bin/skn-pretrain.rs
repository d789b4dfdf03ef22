//! Makes the embedded demo: tokenizer, tasks and a RoBERTa pre-trained on generated text.
use clap::Parser;
use skn::stage::pretrain::{Recipe, pretrain};
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    recipe: Recipe,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}
fn main() -> anyhow::Result<()> {
    let a = Arguments::parse();
    let workers = skn_probing::Workers::new(a.threads)?;
    let t = std::time::Instant::now();
    pretrain(&a.recipe, &workers, &skn_probing::Silent, &|line| println!("{:.0}s {line}", t.elapsed().as_secs_f64()))
}
