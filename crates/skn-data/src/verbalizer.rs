use crate::encode::TextEncoder;
use crate::error::{DataError, Result};

/// The tokens whose logits answer for the classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verbalizer {
    /// One word per class, in class order.
    pub words: Vec<String>,
    /// The id of each class's token.
    pub ids: Vec<u32>,
    /// The text of that token: the word itself, or its beginning.
    pub tokens: Vec<String>,
    /// How many tokens each word has; of more than one, the first is used that is not just the blank before a word.
    pub lengths: Vec<usize>,
}

impl Verbalizer {
    /// Looks words up, as they are written: `" good"` gives RoBERTa's token with the space. BERT's tokens are whole words
    /// in lower case, XLM-RoBERTa's and CamemBERT's begin with their blank (`▁good`), with or without a space. Of a word of several tokens
    /// the first is used; [`Verbalizer::cut_words`] tells which these are.
    ///
    /// # Errors
    ///
    /// [`DataError::WordWithoutToken`], or [`DataError::SharedToken`] for two classes that one token would answer.
    pub fn new(encoder: &TextEncoder, words: &[String]) -> Result<Self> {
        let mut found =
            Self { words: words.to_vec(), ids: Vec::new(), tokens: Vec::new(), lengths: Vec::new() };
        for (class, word) in words.iter().enumerate() {
            let ids = encoder.ids_of_text(word)?;
            let Some(id) = ids.iter().copied().find(|&id| !encoder.is_wordless(id)) else {
                return Err(DataError::WordWithoutToken { class, word: word.clone() });
            };
            let token = encoder.token_text(id).unwrap_or_else(|| format!("token {id}"));
            if let Some(other) = found.ids.iter().position(|other| *other == id) {
                return Err(DataError::SharedToken {
                    first: words[other].clone(),
                    first_class: other,
                    second: word.clone(),
                    second_class: class,
                    token,
                });
            }
            found.ids.push(id);
            found.tokens.push(token);
            found.lengths.push(ids.len());
        }
        Ok(found)
    }

    /// The words of more than one token, each with the text of the token that stands for it; a program reports
    /// them.
    pub fn cut_words(&self) -> impl Iterator<Item = (&str, &str)> {
        let words = self.words.iter().zip(&self.tokens).zip(&self.lengths);
        words.filter(|(_, length)| **length > 1).map(|((word, token), _)| (word.as_str(), token.as_str()))
    }
}
