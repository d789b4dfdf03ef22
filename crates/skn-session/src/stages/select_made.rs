//! Masks by a ranking that was made elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skn_artifact::names::{file, key, rank, stage};
use skn_artifact::{TensorFile, resolve};
use skn_counts::Performance;
use skn_select::{Aggregate, MadeRanking, Share};

use crate::error::{Result, SessionError};
use crate::options::{Select, Subject};
use crate::provenance;
use crate::run_writer::RunWriter;
use crate::session::Session;
use crate::stages::mask_file::is_list;
use crate::stages::ranked::tell_others;
use crate::stages::selected::{
    SAME_NEURON, Selected, check_task, difference, other_split, ranked_by, remove_discoveries,
};

/// Masks of the shares by a ranking; of a file that marks neurons, one with its name.
pub(super) fn select(session: &Session, options: &Select, ranking: &Path) -> Result<Selected> {
    let OfModel { path, counts, split, metadata, widths } = of_model(options, ranking)?;
    let made = MadeRanking::read(&path, &widths)?;
    if made.is_mask() && options.shares != Share::series() {
        return Err(SessionError::usage(format!(
            "option `shares`: goes with scores, and {} has marks, which are taken as they are",
            path.display()
        )));
    }
    let task = match (&options.task, metadata.get(key::TASK)) {
        (Some(task), _) => task.clone(),
        (None, Some(task)) => task.clone(),
        (None, None) => Subject::TASK.into(),
    };
    check_task(&task, options.task.is_some(), &path)?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut writer =
        RunWriter::open(session, options.clone(), &options.out, &stage::select(&task), options.overwrite)?;
    let mut shares = options.shares.clone();
    shares.sort_unstable();
    shares.dedup();
    // Marks have no share.
    let shares = if made.is_mask() { vec![None] } else { shares.into_iter().map(Some).collect() };
    let name = |share: &Option<Share>| share.map_or_else(|| stem.clone(), |share| share.to_string());
    let masks: Vec<String> = shares.iter().map(|share| file::mask(&task, &name(share))).collect();
    writer.check_free(&masks)?;
    let (mut neurons, mut ranked) = (BTreeMap::new(), None);
    for (share, file) in shares.iter().zip(&masks) {
        let mask = made.mask(share.unwrap_or(Share::of_percent(0)))?;
        let mut metadata = metadata.clone();
        metadata.insert(key::TASK.into(), task.clone());
        metadata.insert(rank::RANKING.into(), made.name().unwrap_or(&stem).to_owned());
        if let Some(share) = share {
            metadata.insert(key::SHARE.into(), share.to_string());
        }
        if !made.ranks_all() {
            metadata.insert(key::UNRANKED.into(), key::SOME.into());
        }
        metadata.extend(key::widths(&widths).map(|widths| (key::WIDTHS.to_owned(), widths)));
        writer.tensors(file, &mask.to_bundle(&metadata)?)?;
        ranked = ranked_by(&metadata);
        neurons.insert(name(share), mask.neurons().iter().map(Vec::len).collect());
    }
    tell_others(&writer, &task, &masks, ranked)?;
    // They are of other masks.
    writer.remove_listed([file::neurons(&task), file::evidence(&task)])?;
    // Marks of another's discoveries may have the name of one of these.
    remove_discoveries(&mut writer, &task, masks.first().map(String::as_str))?;
    writer.read(&path)?;
    counts.iter().try_for_each(|counts| writer.read(counts))?;
    writer.finish()?;
    Ok(Selected {
        folder: options.out.join(file::INFO).join(&task),
        task,
        files: 1,
        seeds: 1,
        subtasks: 1,
        classes: None,
        aggregate: options.aggregate.name(),
        score: "ranking",
        split,
        lowest: false,
        neurons,
        best: Vec::new(),
        table: Vec::new(),
        discoveries: None,
    })
}

/// A ranking's file and its model.
struct OfModel {
    path: PathBuf,
    /// The file of counts beside it.
    counts: Option<PathBuf>,
    /// The split that it was made of, if it says another than dev.
    split: Option<String>,
    /// What is known of the model.
    metadata: BTreeMap<String, String>,
    /// How many neurons each of its layers has.
    widths: Vec<usize>,
}

/// Refuses what says how counts are ranked.
fn check_options(options: &Select) -> Result<()> {
    let asked = [
        ("aggregate", options.aggregate != Aggregate::default()),
        ("lowest", options.lowest),
        ("paper", options.paper),
        ("score", options.score.is_some()),
        ("class", options.class.is_some()),
        ("fdr", options.fdr.is_some()),
        ("permutations", options.permutations.is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((option, _)) => Err(SessionError::usage(format!(
            "option `{option}`: goes with counts, and not with option `ranking`"
        ))),
        None => Ok(()),
    }
}

fn of_model(options: &Select, ranking: &Path) -> Result<OfModel> {
    check_options(options)?;
    let is_list = is_list(ranking);
    let path = if is_list { ranking.to_owned() } else { resolve(ranking, "safetensors")? };
    match is_list {
        true => provenance::check_list(&path)?,
        false => provenance::check(&path)?,
    }
    let counts = match &options.counts[..] {
        [] => None,
        [files] if files.len() == 1 => Some(resolve(&files[0], "safetensors")?),
        _ => {
            return Err(SessionError::usage(
                "option `counts`: with option `ranking` expected one file, which says the model's shape, found several",
            ));
        }
    };
    if let Some(counts) = counts {
        provenance::check(&counts)?;
        let file = TensorFile::read(&counts)?;
        provenance::check_whole(&file)?;
        let widths = Performance::read(&file)?.widths().to_vec();
        let mut metadata = of_model_alone(file.metadata());
        let mut split = None;
        if !is_list {
            let read = TensorFile::open(&path)?;
            provenance::check_whole(&read)?;
            let of_ranking = read.metadata();
            split = other_split((&path, of_ranking)).map(str::to_owned);
            if [file.metadata(), of_ranking].iter().all(|said| said.contains_key(key::MODEL))
                && let Some(wrong) = difference(&SAME_NEURON, (&counts, file.metadata()), (&path, of_ranking))
            {
                return Err(SessionError::input(wrong));
            }
            if of_ranking.contains_key(key::MODEL) {
                // It says of itself what it was made with; counts of other parameters don't.
                metadata.retain(|key, _| key == key::TASK);
            }
            let carried = of_model_alone(of_ranking).into_iter().filter(|(key, _)| key != key::TASK);
            metadata.extend(carried);
        }
        return Ok(OfModel { path, counts: Some(counts), split, metadata, widths });
    }
    if is_list {
        return Err(SessionError::usage(format!(
            "option `ranking` {}: a list does not say how many neurons a layer has: give a file of counts of the model as option \
             `counts` too",
            ranking.display()
        )));
    }
    let file = TensorFile::read(&path)?;
    provenance::check_whole(&file)?;
    let tensor = if file.contains("score") { "score" } else { "mask" };
    let shape = file.shape(tensor)?;
    let [layers, neurons] = shape[..] else {
        return Err(SessionError::input(format!(
            "{}: tensor `{tensor}`: expected shape [layers, neurons], found {shape:?}",
            path.display()
        )));
    };
    let widths = match file.metadata().get(key::WIDTHS) {
        None => vec![neurons; layers],
        Some(text) => {
            text.split(',').filter_map(|width| width.parse().ok()).filter(|&width| width <= neurons).collect()
        }
    };
    if widths.len() != layers || widths.iter().max() != Some(&neurons) {
        return Err(SessionError::input(format!(
            "{}: metadata {}: expected widths of {layers} layers, {neurons} at most, found {widths:?}",
            path.display(),
            key::WIDTHS
        )));
    }
    let split = other_split((&path, file.metadata())).map(str::to_owned);
    Ok(OfModel { path, counts: None, split, metadata: of_model_alone(file.metadata()), widths })
}

/// What a file says of the model and the task, and nothing of texts.
fn of_model_alone(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let kept = [key::MODEL, key::TUNING, key::TEMPLATE, key::SITE, key::TASK];
    metadata
        .iter()
        .filter(|(key, _)| kept.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
