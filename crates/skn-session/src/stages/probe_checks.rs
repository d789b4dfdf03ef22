//! What can't be asked of a probe.

use skn_model::{LanguageModel, NeuronSite};
use skn_probing::{Pool, ProbeType, Ranking};
use skn_select::Share;

use crate::error::{Result, SessionError};
use crate::options::{NeuronChoice, Probe, Split};
use crate::setup::Setup;

/// Refuses probes of prompt positions where there is no prompt, or none that sees the text.
pub(super) fn check_prompt(options: &Probe, setup: &Setup<'_>, model: &LanguageModel) -> Result<()> {
    let of_prompt = Some(ProbeType::Acc).filter(|probe| options.asks(*probe));
    match of_prompt {
        Some(probe) if model.prompt_rows() == 0 => Err(SessionError::usage(format!(
            "option `probe_type` {probe} reads the positions of a prompt, and {} is read without one; acc_last, acc_mean, acc_max and \
             pos need none, option `resume_from` takes a tuned one, and option `prompt_size` makes one of chance",
            setup.base.identity.id
        ))),
        _ => check_sight(options, setup, model),
    }
}

fn check_sight(options: &Probe, setup: &Setup<'_>, model: &LanguageModel) -> Result<()> {
    let of_prompt = [ProbeType::Acc, ProbeType::Pos, ProbeType::PromptAct];
    match of_prompt.into_iter().find(|probe| options.asks(*probe)) {
        Some(probe) if model.layout().has_blind_prompt() => Err(SessionError::usage(format!(
            "option `probe_type` {probe} reads what a prompt sees, and that of {} stands in front of the text, of which a decoder's rows \
             see nothing there; option `probe_type` acc_last reads the text's last row",
            setup.base.identity.id
        ))),
        _ => Ok(()),
    }
}

/// Refuses to read factors where neurons are no products.
pub(super) fn check_site(options: &Probe, setup: &Setup<'_>) -> Result<()> {
    let (site, config) = (options.site, &setup.base.model.config);
    if site == NeuronSite::Product || config.is_gated() {
        return Ok(());
    }
    Err(SessionError::usage(format!(
        "option `site` {site}: the FFN of {} ({}) is plain, so a neuron is one number and not a product of two; leave the option out",
        setup.base.identity.id,
        config.model_type()
    )))
}

/// Refuses what can't be asked together.
pub(super) fn check(options: &Probe) -> Result<()> {
    let asks = |probe| options.asks(probe);
    let wrong = |message: &str| Err(SessionError::usage(message));
    if options.probe_type.is_empty() {
        return wrong("option `probe_type`: expected at least one, found none");
    }
    if asks(ProbeType::Pos) && options.pos.is_empty() {
        return wrong(
            "option `probe_type` pos: expected the neuron, option `pos` LAYER,NEURON or option `pos` best, \
             found no option `pos`",
        );
    }
    if !options.pos.is_empty() && !asks(ProbeType::Pos) {
        return wrong("option `pos`: goes with option `probe_type` pos");
    }
    if options.with_texts && !asks(ProbeType::Pos) {
        return wrong("option `with_texts`: goes with option `probe_type` pos");
    }
    let best = options.pos.contains(&NeuronChoice::Best);
    if best && asks(ProbeType::Acc) {
        return wrong(
            "option `pos` best is the best of counts that are there: probe acc first (acc_last where there is no prompt), then pos \
             with option `pos` best",
        );
    }
    if asks(ProbeType::Top) && options.pools().next().is_some() {
        return wrong(
            "option `probe_type` top reads the best neurons of counts that are there: probe acc first, then top",
        );
    }
    if asks(ProbeType::Top) && !options.passes(Split::Dev) {
        return wrong("option `probe_type` top keeps texts of dev, which option `splits` leaves out");
    }
    if asks(ProbeType::Speed) && !options.passes(Split::Test) {
        return wrong("option `probe_type` speed is measured on test, which option `splits` leaves out");
    }
    if options.fire_bits && options.fire_pools().next().is_none() {
        return wrong("option `fire_bits`: goes with option `probe_type` acc or acc_last");
    }
    if options.fire_bits && !options.passes(Split::Dev) {
        return wrong("option `fire_bits`: bits are kept of dev, which option `splits` leaves out");
    }
    if options.variance && (options.pools().next().is_none() || !options.passes(Split::Train)) {
        return wrong(
            "option `variance`: goes with averages over train: option `probe_type` acc, acc_mean, acc_max or acc_last, and \
             option `splits` with train",
        );
    }
    check_rank(options)?;
    let Some(shard) = options.shard else { return Ok(()) };
    if !(1..=shard.count).contains(&shard.index) {
        return Err(SessionError::usage(format!(
            "option `shard` {shard}: expected one of 1 to {}",
            shard.count
        )));
    }
    if let Some(whole) = [ProbeType::PromptAct, ProbeType::Speed].into_iter().find(|&probe| asks(probe)) {
        return Err(SessionError::usage(format!(
            "option `shard` {shard}: {whole} is not made of parts; run it once, without option `shard`"
        )));
    }
    if options.with_texts {
        return Err(SessionError::usage(format!(
            "option `shard` {shard}: texts are kept of all rows; leave option `with_texts` out"
        )));
    }
    let (train, rest) = (options.passes(Split::Train), options.counted().next().is_some());
    if train && rest && options.pools().next().is_some() {
        return Err(SessionError::usage(format!(
            "option `shard` {shard}: the averages over all of train come first; probe with option `splits` train, then \
             merge the shards, then option `splits` dev,test, then merge again"
        )));
    }
    Ok(())
}

/// Refuses rankings that can't be made, or compared.
fn check_rank(options: &Probe) -> Result<()> {
    let wrong = |message: &str| Err(SessionError::usage(message));
    if let (Some(column), false) = (&options.metric_column, options.rank.contains(&Ranking::Correlation)) {
        return Err(SessionError::usage(format!(
            "option `metric_column` {column}: goes with option `rank` correlation, which correlates activations with its numbers"
        )));
    }
    let Some(first) = options.rank.first() else {
        return match options.compare.is_empty() {
            true => Ok(()),
            false => wrong("option `compare`: goes with option `rank`, whose rankings are compared"),
        };
    };
    let twice = options.rank.iter().enumerate().find(|(place, of)| options.rank[..*place].contains(of));
    if let Some((_, ranking)) = twice {
        return Err(SessionError::usage(format!("option `rank` {ranking}: expected once, found twice")));
    }
    let Some(pool) = options.rank_pool() else {
        return Err(SessionError::usage(format!(
            "option `rank` {first}: goes with option `probe_type` acc, acc_last, acc_mean or acc_max"
        )));
    };
    if !options.passes(Split::Dev) {
        return wrong("option `rank`: rankings are of dev, which option `splits` leaves out");
    }
    let of_one_row =
        |ranking: &&Ranking| ranking.needs_gradients() || matches!(ranking, Ranking::Cett | Ranking::L1);
    if let Some(ranking) =
        options.rank.iter().find(of_one_row).filter(|_| matches!(pool, Pool::Mean | Pool::Max))
    {
        return Err(SessionError::usage(format!(
            "option `rank` {ranking}: goes with option `probe_type` acc or acc_last, whose activations are one row's"
        )));
    }
    if let (Some(shard), true) = (options.shard, options.rank.contains(&Ranking::L1)) {
        return Err(SessionError::usage(format!(
            "option `shard` {shard}: option `rank` l1 is a regression on all texts, not made of parts; run it once, without \
             option `shard`"
        )));
    }
    let of_products = options.rank.iter().find(|ranking| ranking.needs_gradients());
    if let Some(ranking) = of_products.filter(|_| options.site != NeuronSite::Product) {
        return Err(SessionError::usage(format!(
            "option `rank` {ranking}: gradients are those of option `site` product"
        )));
    }
    if options.compare.is_empty() {
        return Ok(());
    }
    if options.site != NeuronSite::Product {
        return wrong("option `compare`: only option `site` product can be edited");
    }
    if options.shard.is_some() {
        return wrong(
            "option `compare`: rankings are compared when they are whole; run it once, without option `shard`",
        );
    }
    if !options.passes(Split::Test) {
        return wrong("option `compare`: damage is measured on test, which option `splits` leaves out");
    }
    let half = Share::of_percent(50);
    match options.compare.iter().find(|share| **share > half) {
        None => Ok(()),
        Some(share) => Err(SessionError::usage(format!(
            "option `compare` {share}: as many random neurons are edited, none of them selected: at most 0.5"
        ))),
    }
}
