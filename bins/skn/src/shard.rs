//! Which part of a whole a job does: as the flag says it, or, for `auto`, as the scheduler says it in the environment.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use skn_program::Failure;
use skn_session::options::Shard;

/// A task's number in a job array of Slurm, which counts from [`SLURM_FIRST`].
const SLURM_TASK: &str = "SLURM_ARRAY_TASK_ID";
/// The number of the array's first task.
const SLURM_FIRST: &str = "SLURM_ARRAY_TASK_MIN";
/// The number of its last task.
const SLURM_LAST: &str = "SLURM_ARRAY_TASK_MAX";
/// How far apart its tasks' numbers are.
const SLURM_STEP: &str = "SLURM_ARRAY_TASK_STEP";
/// How many tasks it has.
const SLURM_COUNT: &str = "SLURM_ARRAY_TASK_COUNT";
/// A pod's number in an indexed Job of Kubernetes, from 0.
const KUBERNETES_INDEX: &str = "JOB_COMPLETION_INDEX";
/// How many shards there are. Kubernetes tells no pod, so who writes the Job says it.
const SHARDS: &str = "SKN_SHARDS";

/// What `--shard` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShardFlag {
    /// This one.
    Given(Shard),
    /// The one that the job is for.
    Auto,
}

impl FromStr for ShardFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::Given).map_err(|said: String| format!("{said}, or auto")),
        }
    }
}

impl ShardFlag {
    /// The shard that is meant.
    ///
    /// # Errors
    /// If it is the job's, and the environment does not tell one.
    pub(crate) fn meant(self) -> anyhow::Result<Shard> {
        match self {
            Self::Given(shard) => Ok(shard),
            Self::Auto => of_job(|name| std::env::var_os(name))
                .map_err(|said| Failure::usage(format!("--shard auto: {said}"))),
        }
    }
}

/// A command line's words with the shard that was meant in place of `auto`, so that a record of them means the same everywhere.
pub(crate) fn spelled_out(words: &[String], shard: Shard) -> Vec<String> {
    let mut said = Vec::with_capacity(words.len());
    for word in words {
        let is_value = said.last().is_some_and(|before| before == "--shard");
        said.push(match word.as_str() {
            "auto" if is_value => shard.to_string(),
            "--shard=auto" => format!("--shard={shard}"),
            word => word.to_owned(),
        });
    }
    said
}

/// The shard of the job that runs this, of which its scheduler tells in `variable`.
fn of_job(variable: impl Fn(&str) -> Option<OsString>) -> Result<Shard, String> {
    let job = Job(variable);
    match (job.is_told(SLURM_TASK), job.is_told(KUBERNETES_INDEX)) {
        (true, false) => job.slurm(),
        (false, true) => job.kubernetes(),
        (true, true) => Err(format!(
            "expected the number of one scheduler, found {SLURM_TASK} and {KUBERNETES_INDEX} in the environment; \
             unset one, or give the shard as I/N"
        )),
        (false, false) => Err(format!(
            "expected {SLURM_TASK} (a task of a job array of Slurm) or {KUBERNETES_INDEX} (a pod of an indexed Job of \
             Kubernetes) in the environment, found neither; elsewhere give the shard as I/N, such as 2/8"
        )),
    }
}

/// What the environment says of a job.
struct Job<V>(V);

impl<V: Fn(&str) -> Option<OsString>> Job<V> {
    fn is_told(&self, name: &str) -> bool {
        (self.0)(name).is_some()
    }

    fn number(&self, name: &str) -> Result<usize, String> {
        let Some(text) = (self.0)(name) else {
            return Err(format!("expected {name} in the environment, found none"));
        };
        let text = text.to_string_lossy();
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        number.ok_or_else(|| format!("{name}: expected a whole number, found {}", Quoted(&text)))
    }

    /// A task of a job array. An array of some tasks only (`--array=3,5`), as one submits to do lost ones again, has another
    /// count than the first had: it would do other parts of the whole.
    fn slurm(&self) -> Result<Shard, String> {
        let [task, first, last] =
            [self.number(SLURM_TASK)?, self.number(SLURM_FIRST)?, self.number(SLURM_LAST)?];
        let [step, count] = [self.number(SLURM_STEP)?, self.number(SLURM_COUNT)?];
        let is_regular = step > 0
            && count > 0
            && (count - 1).checked_mul(step).is_some_and(|all| first.checked_add(all) == Some(last));
        if first > 1 || !is_regular {
            return Err(format!(
                "expected an array that begins at 0 or 1 and has no gaps, such as --array=1-8, found one from {first} to {last} \
                 by {step} of {count}; give the shard as I/N where an array does some of all"
            ));
        }
        let place = task.checked_sub(first).filter(|from| from % step == 0 && task <= last);
        let Some(place) = place else {
            return Err(format!(
                "{SLURM_TASK}: expected a task of the array from {first} to {last} by {step}, found {task}"
            ));
        };
        if self.is_told(SHARDS) && self.number(SHARDS)? != count {
            let shards = self.number(SHARDS)?;
            return Err(format!("{SHARDS}: expected {count} as {SLURM_COUNT} says, found {shards}"));
        }
        Ok(Shard { index: place / step + 1, count })
    }

    /// A pod of an indexed Job.
    fn kubernetes(&self) -> Result<Shard, String> {
        let index = self.number(KUBERNETES_INDEX)?;
        if !self.is_told(SHARDS) {
            return Err(format!(
                "expected {SHARDS}, how many shards there are, beside {KUBERNETES_INDEX} in the environment, found none; \
                 set it to the Job's completions"
            ));
        }
        let count = self.number(SHARDS)?;
        if index >= count {
            return Err(format!(
                "{KUBERNETES_INDEX}: expected less than {count} as {SHARDS} says, found {index}"
            ));
        }
        Ok(Shard { index: index + 1, count })
    }
}

/// What was found in a variable, so much of it as a person wants to read.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 40;
        match self.0.char_indices().nth(MOST) {
            Some((end, _)) => write!(f, "`{}..`", self.0.get(..end).unwrap_or_default()),
            None if self.0.is_empty() => f.write_str("nothing"),
            None => write!(f, "`{}`", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in an environment that has these alone, `A=1 B=2`.
    fn found(environment: &str) -> Result<Shard, String> {
        let set: Vec<(&str, &str)> =
            environment.split_whitespace().map(|set| set.split_once('=').unwrap()).collect();
        of_job(|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()))
    }

    fn slurm(task: &str, first: &str, last: &str, step: &str, count: &str) -> String {
        format!(
            "SLURM_ARRAY_TASK_ID={task} SLURM_ARRAY_TASK_MIN={first} SLURM_ARRAY_TASK_MAX={last} \
             SLURM_ARRAY_TASK_STEP={step} SLURM_ARRAY_TASK_COUNT={count}"
        )
    }

    fn check(environment: &str, expected: &str) {
        assert_eq!(found(environment).map(|shard| shard.to_string()), Ok(expected.into()), "{environment}");
    }

    fn refuses(environment: &str, parts: &[&str]) {
        let said = found(environment).unwrap_err();
        assert!(parts.iter().all(|part| said.contains(part)), "{environment}: {said}");
    }

    #[test]
    fn a_flag_is_a_shard_or_auto() {
        assert_eq!("auto".parse(), Ok(ShardFlag::Auto));
        assert_eq!("2/8".parse(), Ok(ShardFlag::Given(Shard { index: 2, count: 8 })));
        for wrong in ["", "Auto", "auto/8", "0/8", "9/8", "-1/2"] {
            assert!(wrong.parse::<ShardFlag>().unwrap_err().ends_with("or auto"), "{wrong}");
        }
    }

    #[test]
    fn a_task_of_an_array_is_a_shard() {
        for (array, expected) in [
            (["1", "1", "8", "1", "8"], "1/8"),
            (["8", "1", "8", "1", "8"], "8/8"),
            (["0", "0", "7", "1", "8"], "1/8"),
            (["7", "0", "7", "1", "8"], "8/8"),
            (["6", "0", "6", "2", "4"], "4/4"),
            (["4", "1", "7", "3", "3"], "2/3"),
            (["1", "1", "1", "1", "1"], "1/1"),
            (["0", "0", "0", "1", "1"], "1/1"),
            (["4000000", "0", "4000000", "1", "4000001"], "4000001/4000001"),
        ] {
            let [task, first, last, step, count] = array;
            check(&slurm(task, first, last, step, count), expected);
        }
        let said = slurm("2", "1", "8", "1", "8") + " SKN_SHARDS=8";
        check(&said, "2/8");
    }

    #[test]
    fn an_array_of_some_tasks_is_refused() {
        // What one submits for shards that were lost: their number in it says nothing.
        for array in [
            ["3", "3", "3", "1", "1"],
            ["5", "3", "5", "1", "3"],
            ["3", "1", "7", "1", "3"],
            ["7", "1", "7", "2", "3"],
        ] {
            let [task, first, last, step, count] = array;
            refuses(&slurm(task, first, last, step, count), &["begins at 0 or 1", "I/N"]);
        }
        let said = slurm("1", "1", "1", "1", "1") + " SKN_SHARDS=8";
        refuses(&said, &["SKN_SHARDS: expected 1 as SLURM_ARRAY_TASK_COUNT says, found 8"]);
    }

    #[test]
    fn absurd_arrays_are_refused() {
        refuses("SLURM_ARRAY_TASK_ID=1", &["SLURM_ARRAY_TASK_MIN", "found none"]);
        for (array, part) in [
            (["-1", "0", "7", "1", "8"], "SLURM_ARRAY_TASK_ID: expected a whole number, found `-1`"),
            (["", "0", "7", "1", "8"], "SLURM_ARRAY_TASK_ID: expected a whole number, found nothing"),
            (["+1", "0", "7", "1", "8"], "`+1`"),
            (["1.0", "0", "7", "1", "8"], "`1.0`"),
            (["18446744073709551616", "0", "7", "1", "8"], "`18446744073709551616`"),
            (["x".repeat(99).as_str(), "0", "7", "1", "8"], "xx..`"),
            (["1", "x", "7", "1", "8"], "SLURM_ARRAY_TASK_MIN"),
            (["1", "0", "x", "1", "8"], "SLURM_ARRAY_TASK_MAX"),
            (["1", "0", "7", "x", "8"], "SLURM_ARRAY_TASK_STEP"),
            (["1", "0", "7", "1", "x"], "SLURM_ARRAY_TASK_COUNT"),
            (["1", "0", "7", "0", "8"], "from 0 to 7 by 0 of 8"),
            (["1", "0", "7", "1", "0"], "from 0 to 7 by 1 of 0"),
            (["1", "0", "7", "18446744073709551615", "18446744073709551615"], "begins at 0 or 1"),
            (["8", "0", "7", "1", "8"], "found 8"),
            (["0", "1", "8", "1", "8"], "found 0"),
            (["3", "0", "6", "2", "4"], "found 3"),
        ] {
            let [task, first, last, step, count] = array;
            refuses(&slurm(task, first, last, step, count), &[part]);
        }
    }

    #[test]
    fn a_pod_of_an_indexed_job_is_a_shard() {
        check("JOB_COMPLETION_INDEX=0 SKN_SHARDS=4", "1/4");
        check("JOB_COMPLETION_INDEX=3 SKN_SHARDS=4", "4/4");
        refuses("JOB_COMPLETION_INDEX=3", &["expected SKN_SHARDS", "completions"]);
        for (set, part) in [
            ("JOB_COMPLETION_INDEX=4 SKN_SHARDS=4", "expected less than 4 as SKN_SHARDS says, found 4"),
            ("JOB_COMPLETION_INDEX=0 SKN_SHARDS=0", "expected less than 0"),
            ("JOB_COMPLETION_INDEX=18446744073709551615 SKN_SHARDS=18446744073709551615", "less than"),
            (
                "JOB_COMPLETION_INDEX= SKN_SHARDS=4",
                "JOB_COMPLETION_INDEX: expected a whole number, found nothing",
            ),
            ("JOB_COMPLETION_INDEX=1 SKN_SHARDS=-4", "SKN_SHARDS: expected a whole number, found `-4`"),
        ] {
            refuses(set, &[part]);
        }
    }

    #[test]
    fn one_scheduler_and_only_one() {
        refuses("SKN_SHARDS=4", &["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "found neither", "2/8"]);
        let both = slurm("2", "1", "8", "1", "8") + " JOB_COMPLETION_INDEX=1 SKN_SHARDS=8";
        refuses(&both, &["found SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX", "unset one"]);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let said = of_job(|name| (name == SLURM_TASK).then(|| OsString::from_vec(vec![0xff, b'1'])));
        assert!(said.unwrap_err().starts_with("SLURM_ARRAY_TASK_ID: expected a whole number"));
    }

    #[test]
    fn a_record_says_which_shard_it_was() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let shard = Shard { index: 2, count: 8 };
        for (typed, expected) in [
            ("--shard auto --out auto", "--shard 2/8 --out auto"),
            ("--out auto --shard=auto", "--out auto --shard=2/8"),
            ("--shard 1/2", "--shard 1/2"),
        ] {
            assert_eq!(spelled_out(&words(typed), shard), words(expected));
        }
    }
}
