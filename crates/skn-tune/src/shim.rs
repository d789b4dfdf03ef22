//! temporary
#![allow(missing_docs)]
use skn_data::Encoded;
use skn_model::*;
#[derive(Debug, thiserror::Error)]
pub enum ProbingError { #[error(transparent)] Model(#[from] ModelError), #[error("cancelled")] Cancelled }
impl ProbingError { pub fn exit_code(&self) -> u8 { 1 } }
pub struct Workers(pub usize);
impl Workers {
    pub fn new(n: usize) -> Self { Self(n) }
    pub fn fold<B: Sync, R: Send, E: Send>(&self, b: &[B], map: impl Fn(&B) -> Result<R, E> + Sync, mut fold: impl FnMut(R) -> Result<(), E>) -> Result<(), E> {
        let n = self.0;
        for chunk in b.chunks(n) {
            let r: Vec<_> = std::thread::scope(|s| { let h: Vec<_> = chunk.iter().map(|b| s.spawn(|| map(b))).collect(); h.into_iter().map(|h| h.join().unwrap()).collect() });
            for r in r { fold(r?)?; }
        }
        Ok(())
    }
}
pub trait Progress: Sync { fn begin(&self, _: &str, _: u64) {} fn advance(&self, _: u64) {} fn cancelled(&self) -> bool { false } }
pub struct NoProgress; impl Progress for NoProgress {}
pub struct Evaluation { pub predicted: Vec<usize>, pub labels: Vec<usize>, pub loss: f64 }
pub fn evaluate(model: &Roberta, texts: &[Encoded], v: &[u32], w: &Workers) -> Result<Evaluation, ProbingError> {
    let batches = skn_data::pack(texts, model.prompt_rows(), 256, 100);
    let mut out: Vec<(u64, usize, usize, f64)> = vec![];
    w.fold(&batches, |b| {
        let h = model.forward(Sequences { ids: &b.ids, starts: &b.starts, samples: &b.rows }, &Pass::default(), &mut NoHook)?;
        let l = model.logits(&h, Scored::Tokens(v))?.to_vec2::<f32>().unwrap();
        Ok::<_, ProbingError>(l.iter().zip(&b.labels).zip(&b.rows).map(|((l, &y), &r)| {
            let p = (0..l.len()).max_by(|&a, &b| l[a].total_cmp(&l[b])).unwrap();
            let m = l.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln() - f64::from(l[y]);
            (r, p, y, m)
        }).collect::<Vec<_>>())
    }, |x| { out.extend(x); Ok(()) })?;
    out.sort_by_key(|x| x.0);
    Ok(Evaluation { loss: out.iter().map(|x| x.3).sum::<f64>() / out.len() as f64, predicted: out.iter().map(|x| x.1).collect(), labels: out.iter().map(|x| x.2).collect() })
}
