//! A refusal on its way to the program that prints it: between `nunbird-auth` and `nunbird-decide`, and from `nunbird-session`.

use nunbird_wire::layout;

/// A refusal of a program for another one, which prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedBy {
    /// Whether it is final.
    pub denied: bool,
    /// The code's name.
    pub code: String,
    /// For the CI user.
    pub message: String,
    /// For the admin.
    pub detail: String,
    /// What the reader can do.
    pub help: String,
}

layout!(RefusedBy { denied, code, message, detail, help });

impl RefusedBy {
    /// What to do where there is nothing better to say.
    pub const HELP: &str = "give your site's admins the id of this decision";
}
