//! The words of the demo's language.

/// What a text is about. The names are the label words of task `topic`.
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    pub(crate) things: &'static [&'static str],
    pub(crate) good: &'static [&'static str],
    pub(crate) bad: &'static [&'static str],
    /// Sentences that say what happened, and judge nothing.
    pub(crate) facts: &'static [&'static str],
}

pub(crate) const TOPICS: [Topic; 4] = [
    Topic {
        name: "food",
        things: &["soup", "bread", "fish", "cake", "coffee", "salad"],
        good: &["tasty", "fresh", "delicious"],
        bad: &["stale", "bland", "burnt"],
        facts: &[
            "we ate at the corner table",
            "the menu has six pages",
            "the cook lit the oven at noon",
            "the waiter carried two plates",
            "lunch is served until three",
            "she cut the apples into slices",
        ],
    },
    Topic {
        name: "music",
        things: &["song", "concert", "singer", "melody", "album", "band"],
        good: &["catchy", "moving", "lively"],
        bad: &["shrill", "flat", "noisy"],
        facts: &[
            "the choir stood in three rows",
            "the record has two sides",
            "the piano was moved to the hall",
            "he tuned his guitar before the show",
            "the ticket shows the date of the concert",
            "the second part is in a minor key",
        ],
    },
    Topic {
        name: "sports",
        things: &["match", "goal", "team", "race", "coach", "player"],
        good: &["thrilling", "brave", "swift"],
        bad: &["clumsy", "lazy", "careless"],
        facts: &[
            "the whistle blew at half past two",
            "both sides had eleven players",
            "the ball went over the line",
            "the stadium has four gates",
            "they train on the field by the river",
            "the cup is handed over in may",
        ],
    },
    Topic {
        name: "travel",
        things: &["hotel", "train", "beach", "flight", "village", "island"],
        good: &["comfortable", "sunny", "charming"],
        bad: &["dirty", "crowded", "delayed"],
        facts: &[
            "we left the station at dawn",
            "the road follows the coast",
            "our bags were on the second bus",
            "the map shows three bridges",
            "she booked two nights in advance",
            "the border lies behind the hills",
        ],
    },
];

/// Praise and blame that fit every topic.
pub(crate) const GOOD: [&str; 6] = ["good", "great", "lovely", "superb", "wonderful", "excellent"];
pub(crate) const BAD: [&str; 6] = ["bad", "awful", "poor", "terrible", "dreadful", "horrible"];

pub(crate) const GOOD_VERBS: [&str; 4] = ["loved", "enjoyed", "praised", "liked"];
pub(crate) const BAD_VERBS: [&str; 4] = ["hated", "disliked", "cursed", "mocked"];

pub(crate) const PEOPLE: [&str; 10] = [
    "i",
    "we",
    "they",
    "anna",
    "my brother",
    "her friends",
    "the guests",
    "our neighbour",
    "the children",
    "peter",
];
pub(crate) const DEGREES: [&str; 7] = ["very", "really", "quite", "truly", "rather", "so", "extremely"];
/// What turns "was good" round.
pub(crate) const DENIALS: [&str; 5] = ["not", "never", "hardly", "anything but", "by no means"];
pub(crate) const TIMES: [&str; 6] =
    ["on monday", "in the evening", "last week", "in spring", "at noon", "yesterday"];

/// Says that what stands before it is so ..
pub(crate) const RIGHT: [&str; 4] = ["right", "true", "correct", "indeed"];
/// .. or is not.
pub(crate) const WRONG: [&str; 4] = ["wrong", "false", "mistaken", "untrue"];
/// Says nothing about it.
pub(crate) const REMARKS: [&str; 10] = [
    "said anna",
    "from the north",
    "on page two",
    "in a letter",
    "by a stranger",
    "from the radio",
    "at the market",
    "with a smile",
    "over the phone",
    "after a while",
];

pub(crate) const SENTIMENT: [&str; 2] = ["negative", "positive"];
/// In the order of classes: the hypothesis follows, may be, contradicts.
pub(crate) const INFERENCE: [&str; 3] = ["yes", "maybe", "no"];
