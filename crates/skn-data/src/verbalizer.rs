use crate::encode::TextEncoder;
use crate::error::{DataError, Result};

/// The tokens whose logits answer for the classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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
                    id,
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

impl TextEncoder {
    /// The tokens that stand for the classes; see [`Verbalizer::new`].
    ///
    /// # Errors
    ///
    /// A word without a token, or two classes with the same token.
    pub fn verbalizer(&self, words: &[String]) -> Result<Verbalizer> {
        Verbalizer::new(self, words)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn golden_ids() {
        let verbalizer = golden::encoder().verbalizer(&words(&["negative", "positive"])).unwrap();
        assert!(verbalizer.ids.iter().map(|id| i64::from(*id)).eq(golden::numbers("verbalizer_ids")));
    }

    #[test]
    fn words_are_taken_as_they_are_written() {
        let encoder = golden::encoder();
        let verbalizer = encoder.verbalizer(&words(&[" the", "the"])).unwrap();
        assert_eq!(verbalizer.tokens, [" the", "the"]);
        assert_eq!(verbalizer.lengths, [1, 1]);
        assert_eq!(verbalizer.cut_words().count(), 0);
    }

    #[test]
    fn words_of_several_tokens_are_reported() {
        let verbalizer = golden::encoder().verbalizer(&words(&["negative", "xylophone"])).unwrap();
        assert!(verbalizer.cut_words().any(|(word, token)| word == "xylophone" && token == "x"));
    }

    #[test]
    fn words_that_cannot_answer_are_refused() {
        let refused = |given: &[&str]| golden::encoder().verbalizer(&words(given)).unwrap_err().to_string();
        assert!(refused(&["xyz", "b", "xzy"]).contains("\"xyz\" (class 0) and \"xzy\" (class 2) both begin"));
        assert_eq!(refused(&["good", ""]), "verbalizer word \"\" of class 1 has no token");
    }
}
