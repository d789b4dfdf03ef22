//! Do tuned parameters fit what they are used with? And what is told of them.

use std::fmt::Display;
use std::path::Path;

use skn_artifact::names::file;
use skn_artifact::{ModelIdentity, is_file};
use skn_data::{Task, TextTemplate};
use skn_model::{Method, ModelFolder, ReadAs, Tuning};

use crate::error::{Result, SessionError};
use crate::options::{Subject, Tuned, TunedMethod};
use crate::session::Session;
use crate::tuned_folder::TunedFolder;

/// Says that a model's folder holds tuned parameters too, with which transformers would load it.
///
/// # Errors
/// If the system can't say whether it does.
pub(crate) fn tell_tuned(folder: &ModelFolder, tuned: &Tuned) -> Result<()> {
    if tuned.load {
        return Ok(());
    }
    for name in file::tuned_in_best().filter(|name| name.ends_with(file::TENSORS)) {
        if is_file(&folder.place().join(&name))? {
            let place = folder.place().display();
            tracing::warn!(
                "{place}: its tuned parameters ({name}) are not loaded with the model; option `resume_from` {place} loads them"
            );
            break;
        }
    }
    Ok(())
}

/// Says which options have nothing to act on.
pub(crate) fn tell_idle(tuned: &Tuned) {
    // What is loaded says itself what it is.
    if let Some(method) = tuned.method.filter(|_| !tuned.load) {
        tell_no_prompt(tuned, Some(method.method()));
    }
    if tuned.resume_from.is_some() && !tuned.load {
        tracing::warn!(
            "option `resume_from` without option `load`: its tuned parameters are not loaded, this begins with new ones"
        );
    }
    if tuned.prepend_mask && !tuned.load {
        tracing::warn!("option `prepend_mask`: goes with option `resume_from`; it changes nothing");
    }
    if tuned.verbalizer && !tuned.load {
        tracing::warn!("option `verbalizer`: goes with option `resume_from`; it changes nothing");
    }
}

/// Says which options of a prompt have nothing to act on, of new tuned parameters or of those that were loaded.
pub(crate) fn tell_no_prompt(tuned: &Tuned, method: Option<Method>) {
    let method = match method {
        Some(Method::Bias) => TunedMethod::Bias.name(),
        Some(Method::Adapter) => TunedMethod::Adapter.name(),
        Some(Method::Prompt) | None => return,
    };
    let place = if tuned.load { ", as it was loaded," } else { "" };
    if tuned.prompt_size.is_some() {
        tracing::warn!(
            "option `prompt_size`: {method}{place} has no prompt but the <mask> row; it changes nothing"
        );
    }
    if tuned.prompt_place.is_some() {
        tracing::warn!("option `prompt_place`: {method}{place} has no prompt; it changes nothing");
    }
}

/// Refuses a written prompt where something else says what the prompt is.
pub(crate) fn check_written(tuned: &Tuned) -> Result<()> {
    let Some(text) = &tuned.prompt_text else { return Ok(()) };
    let wrong = |why: &str| Err(SessionError::usage(format!("option `prompt_text` {text:?}: {why}")));
    if tuned.load {
        return wrong("option `resume_from` takes a tuned prompt; expected one of them");
    }
    let method = tuned.new_method();
    if method.method() != Method::Prompt {
        return wrong(&format!("option `method` {} has no prompt", method.name()));
    }
    if tuned.prompt_size.is_some() {
        return wrong("it has as many positions as tokens; leave option `prompt_size` out");
    }
    Ok(())
}

/// Checks that tuned parameters are of this model, where they say of which they are.
pub(crate) fn check_backbone(source: &TunedFolder, identity: &ModelIdentity) -> Result<()> {
    match &source.config {
        Some(config) if config.model.sha256 != identity.sha256 => Err(SessionError::input(format!(
            "{}: tuned on model {} (SHA-256 {}), but option `model` gives {} ({})",
            source.best.join(file::SKILL_CONFIG).display(),
            config.model.id,
            config.model.sha256,
            identity.id,
            identity.sha256
        ))),
        _ => Ok(()),
    }
}

/// Refuses texts that are longer than the model takes.
pub(crate) fn check_length(subject: &Subject, most: usize, model: &str) -> Result<()> {
    match subject.max_length {
        Some(length) if length.get() > most => Err(SessionError::usage(format!(
            "option `max_length` {length}: model {model} takes at most {most} tokens, those of a prompt counted; leave the option \
             out for as many as it takes"
        ))),
        _ => Ok(()),
    }
}

/// Says that tuned parameters are of another task than the one that they answer here: to try that is an experiment.
pub(crate) fn tell_other_task(session: &Session, source: &TunedFolder, task: &Task) {
    let Some(config) = source.config.as_ref().filter(|config| config.task != task.name) else { return };
    let told = format!(
        "option `task` {}: the parameters in {} were tuned for task {}, and answer this one here",
        task.name,
        source.best.display(),
        config.task
    );
    if session.is_new(&told) {
        tracing::warn!("{told}");
    }
}

/// Checks that tuned parameters are for texts in the task's template, where they say for which they are.
pub(crate) fn check_template(source: &TunedFolder, task: &Task) -> Result<()> {
    let (Some(config), now) = (&source.config, template_sha256(task)) else { return Ok(()) };
    if config.template_sha256 == now {
        return Ok(());
    }
    let said = |hash: &Option<String>| match hash {
        Some(hash) => format!("a template (SHA-256 {hash})"),
        None => "no template".to_owned(),
    };
    Err(SessionError::input(format!(
        "{}: tuned with {}, but task {} has {}{}",
        source.best.join(file::SKILL_CONFIG).display(),
        said(&config.template_sha256),
        task.name,
        said(&now),
        if now.is_some() { " now" } else { "" }
    )))
}

/// The hash of a task's template, if it has one.
pub(crate) fn template_sha256(task: &Task) -> Option<String> {
    task.template.as_ref().map(TextTemplate::sha256)
}

/// Checks that `skn.json` describes the parameters beside it.
pub(crate) fn check_description(source: &TunedFolder, tuning: &Tuning, how: ReadAs) -> Result<()> {
    let Some(config) = &source.config else { return Ok(()) };
    let wrong = |field: &str, said: &dyn Display, found: &dyn Display| {
        let file = source.best.join(file::SKILL_CONFIG);
        let file = file.display();
        Err(SessionError::input(format!(
            "{file}: {field}: expected {found}, as the parameters beside it are, found {said}"
        )))
    };
    let methods = [method_name(tuning, false), method_name(tuning, true)];
    if !methods.contains(&config.method.as_str()) {
        return wrong("method", &config.method, &methods[0]);
    }
    let rows = tuning.prompt_rows();
    if tuning.method() == Some(Method::Prompt) && !how.prepend_mask && config.prompt_size != rows {
        return wrong("prompt_size", &config.prompt_size, &rows);
    }
    match (&config.prompt_place, tuning.place()) {
        (Some(said), place) if said != place.name() => return wrong("prompt_place", said, &place),
        _ => {}
    }
    Ok(())
}

/// Checks that the tuned parameters in a folder are of the method that is asked for, if one is.
pub(crate) fn check_method(best: &Path, tuning: &Tuning, asked: Option<TunedMethod>) -> Result<()> {
    let Some(asked) = asked.filter(|asked| tuning.method() != Some(asked.method())) else { return Ok(()) };
    let found = match tuning.method() {
        Some(Method::Prompt) => "a prompt (RobertaPrompt)",
        Some(Method::Bias) => "biases (RobertaBias)",
        Some(Method::Adapter) => "adapters (RobertaAdapter)",
        None => "nothing",
    };
    Err(SessionError::usage(format!(
        "option `method` {}: the tuned parameters in {} are {found}; leave the option out",
        asked.name(),
        best.display()
    )))
}

/// The method of tuned parameters, by the original's name.
pub(crate) fn method_name(tuning: &Tuning, pruned: bool) -> &'static str {
    match tuning.method() {
        Some(Method::Bias) => TunedMethod::Bias.name(),
        Some(Method::Adapter) => TunedMethod::Adapter.name(),
        _ if pruned => TunedMethod::PrunePrompt.name(),
        _ => TunedMethod::Prompt.name(),
    }
}
