//! Texts as the model takes them, and what is told of those that are too long.

use std::borrow::Borrow;
use std::ops::Range;
use std::path::Path;

use skn_data::{Encoded, Example, Join, StoredTexts, TextEncoder, TextStore};
use skn_model::{LanguageModel, give_back_freed_memory};
use skn_probing::{ProbingError, Work};

use super::Base;
use crate::error::{Result, SessionError};
use crate::spread::{first_of_share, own};

/// So many texts leave megabytes behind when they become tokens.
const MANY: usize = 10_000;

impl Base<'_> {
    /// The texts of a part as tokens, cut to what the model takes beside its prompt, which is told of the part's `name`. Rows that
    /// are not borrowed are let go of on the way.
    ///
    /// # Errors
    /// If the prompt leaves no room for text.
    pub(crate) fn encode<R>(
        &self,
        name: &str,
        part: impl IntoIterator<Item = R, IntoIter: Send>,
        model: &LanguageModel,
    ) -> Result<Vec<Encoded>>
    where
        R: Borrow<Example> + Send + Sync,
    {
        let (texts, cut) = self.encode_part(name, part, model)?;
        // Rows were made on the reader's thread, and their tokens elsewhere: what is freed of one is not at hand for the other.
        if texts.len() >= MANY {
            give_back_freed_memory();
        }
        self.tell_cut(cut.len() as u64, texts.len() as u64, &format!(" of {name}"), model);
        Ok(texts)
    }

    /// As [`Self::encode`], but that texts of the rows `own` alone are kept, in a file of this folder where they are many: memory then
    /// holds some of them at a time. What is told is of all.
    ///
    /// # Errors
    /// As [`Self::encode`]; if the file can't be written, or it is cancelled.
    pub(crate) fn store<R>(
        &self,
        name: &str,
        part: impl IntoIterator<Item = R, IntoIter: ExactSizeIterator + Send>,
        own: Range<usize>,
        folder: &Path,
        model: &LanguageModel,
    ) -> Result<StoredTexts>
    where
        R: Borrow<Example> + Send + Sync,
    {
        self.check_room(model)?;
        let part = part.into_iter();
        let (rows, most) = (part.len(), self.most_tokens(model));
        let (mut store, mut cut) = (TextStore::new(folder), 0);
        let own = own.start as u64..own.end as u64;
        // Of many texts a tokenizer would keep more words than their tokens take, on each thread.
        let encoder: &TextEncoder = if rows >= MANY { self.encoder.forgetful() } else { &self.encoder };
        self.tokenise(name, part, most, encoder, |mut texts, of_texts| {
            cut += of_texts.len() as u64;
            texts.retain(|text| own.contains(&text.row));
            Ok(store.add(texts)?)
        })?;
        let stored = store.finish()?;
        if rows >= MANY {
            give_back_freed_memory();
        }
        self.tell_cut(cut, rows as u64, &format!(" of {name}"), model);
        Ok(stored)
    }

    /// As [`Self::encode`], in a group of processes this one's share of the part alone; what is told is of all.
    ///
    /// # Errors
    /// As [`Self::encode`]; if a process is gone.
    pub(crate) fn encode_own(
        &self,
        name: &str,
        part: &[Example],
        model: &LanguageModel,
    ) -> Result<Vec<Encoded>> {
        let (texts, cut) = self.encode_own_noting_cuts(name, part, model)?;
        self.tell_cut(cut.len() as u64, part.len() as u64, &format!(" of {name}"), model);
        Ok(texts)
    }

    /// The same, but that nothing is told: with the rows of the whole part whose texts were cut.
    ///
    /// # Errors
    /// As [`Self::encode_own`].
    pub(crate) fn encode_own_noting_cuts(
        &self,
        name: &str,
        part: &[Example],
        model: &LanguageModel,
    ) -> Result<(Vec<Encoded>, Vec<u64>)> {
        let group = self.session.group();
        if group.size() == 1 {
            return self.encode_part(name, part, model);
        }
        let first = first_of_share(part.len(), group.rank(), group.size()) as u64;
        let found = self.encode_part(name, own(group, part)?, model);
        let (mut texts, cut) = match (found, first) {
            // The others are to hear of it.
            (Err(SessionError::Probing(ProbingError::Cancelled)), _) => {
                (Vec::new(), Err(ProbingError::Cancelled))
            }
            (Err(error), 0) => return Err(error),
            (Err(error), first) => {
                let rows = format!("{}, whose rows are counted from row {first}", group.name());
                return Err(error.within(rows));
            }
            (Ok((texts, cut)), _) => (texts, Ok(cut)),
        };
        texts.iter_mut().for_each(|text| text.row += first);
        let cut = cut.map(|cut| cut.into_iter().flat_map(|row| (first + row).to_le_bytes()).collect());
        let cut = group.share_out(cut)?.concat();
        let cut = cut.as_chunks().0.iter().map(|row| u64::from_le_bytes(*row)).collect();
        Ok((texts, cut))
    }

    /// Tells how many texts were cut, once.
    pub(crate) fn tell_cut(&self, cut: u64, texts: u64, of: &str, model: &LanguageModel) {
        if cut == 0 {
            return;
        }
        let (most, are) = (self.most_tokens(model), if cut == 1 { "is" } else { "are" });
        let were = if cut == 1 { "was" } else { "were" };
        let told = format!("{cut} of {texts} texts{of} {are} longer than {most} tokens and {were} cut");
        if self.session.is_new(&format!("{}: {told}", self.task.name)) {
            tracing::warn!("{told}");
        }
    }

    /// The most tokens of a text, those around it included.
    pub(crate) fn most_tokens(&self, model: &LanguageModel) -> usize {
        let most = model.max_text();
        self.max_length.map_or(most, |limit| limit.min(most))
    }

    fn encode_part<R>(
        &self,
        name: &str,
        part: impl IntoIterator<Item = R, IntoIter: Send>,
        model: &LanguageModel,
    ) -> Result<(Vec<Encoded>, Vec<u64>)>
    where
        R: Borrow<Example> + Send + Sync,
    {
        self.check_room(model)?;
        let (part, most) = (part.into_iter(), self.most_tokens(model));
        let Some(rehearsal) = self.session.rehearsal() else {
            let (mut all, mut cut) = (Vec::with_capacity(part.size_hint().0), Vec::new());
            self.tokenise(name, part, most, &self.encoder, |texts, of_texts| {
                all.extend(texts);
                cut.extend(of_texts);
                Ok(())
            })?;
            return Ok((all, cut));
        };
        let workers = self.session.workers();
        // How many are cut of a sample tells nothing exact of all.
        let texts = rehearsal.encode(name, part, |some| {
            workers
                .install(|| self.encoder.encode_all_noting_cuts(some, most, self.join()))
                .map(|(texts, _)| texts)
        })?;
        Ok((texts, Vec::new()))
    }

    /// Makes tokens of rows, and gives them to `take` some at a time. Who watches may stop it, and is told of many.
    fn tokenise<R>(
        &self,
        name: &str,
        part: impl Iterator<Item = R> + Send,
        most: usize,
        encoder: &TextEncoder,
        mut take: impl FnMut(Vec<Encoded>, Vec<u64>) -> Result<()> + Send,
    ) -> Result<()>
    where
        R: Borrow<Example> + Send + Sync,
    {
        let progress = self.session.progress();
        self.session.workers().install(|| {
            let rows = part.size_hint().0;
            let is_long = rows >= MANY;
            if is_long {
                progress.begin(Work { part: name, ..Work::of("tokenising", rows as u64) });
            }
            encoder.encode_one_after_another(part, most, self.join(), |texts, cut| {
                if progress.cancelled() {
                    return Err(ProbingError::Cancelled.into());
                }
                if is_long {
                    progress.advance(texts.len() as u64);
                }
                take(texts, cut)
            })
        })
    }

    /// Refuses a model whose prompt, or a length of texts, leaves no room for them; and a template that does.
    fn check_room(&self, model: &LanguageModel) -> Result<()> {
        let most = model.max_text();
        let least = self.encoder.tokens_around() + 1;
        if most.min(self.max_length.unwrap_or(most)) < least && self.task.needs_data() {
            let (rows, all) = (model.prompt_rows(), model.config().max_sequence());
            return Err(SessionError::usage(match self.max_length {
                Some(length) if length < least => {
                    format!(
                        "option `max_length` {length}: special tokens such as <s> leave no room for text; at least {least}"
                    )
                }
                _ => format!(
                    "a prompt of {rows} positions leaves {most} of the model's {all} for a text and special tokens such as <s>; at \
                     least {least}"
                ),
            }));
        }
        if self.task.template.is_some() {
            self.encode_empty(model)?;
        }
        Ok(())
    }

    /// The tokens of a row without texts: what stands around them.
    ///
    /// # Errors
    /// If they do not fit into the model beside its prompt, or into what texts may have.
    pub(crate) fn encode_empty(&self, model: &LanguageModel) -> Result<Vec<u32>> {
        let most = model.max_text();
        let most = self.max_length.map_or(most, |limit| limit.min(most));
        let empty = Example { text: "".into(), pair: None, more: Box::default(), label: 0 };
        Ok(match self.task.template {
            // Two texts in a row have no place without them.
            None => self.encoder.encode(&empty, usize::MAX, Join::Separated)?.0,
            Some(_) => self.encoder.encode(&empty, most, self.join())?.0,
        })
    }

    /// How a row's texts become one sequence.
    fn join(&self) -> Join<'_> {
        match &self.task.template {
            Some(template) => Join::Template(template),
            None if self.paper => Join::Paper,
            None => Join::Separated,
        }
    }

    /// As [`Self::encode`], cut to a number of tokens, and nothing is told.
    ///
    /// # Errors
    /// If that is too few for `<s>` and `</s>`.
    pub(crate) fn encode_to<R>(
        &self,
        part: impl IntoIterator<Item = R> + Send,
        most: usize,
    ) -> Result<Vec<Encoded>>
    where
        R: Borrow<Example> + Send + Sync,
    {
        let most = self.max_length.map_or(most, |limit| limit.min(most));
        Ok(self.session.workers().install(|| self.encoder.encode_all(part, most, self.join()))?)
    }
}
