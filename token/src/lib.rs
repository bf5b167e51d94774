//! From a job response and a server's keys to verified claims.
//!
//! Pure: bytes and a clock reading in, a value out. `nunbird-decide` runs [`admit()`] in a process
//! that has neither a useful uid nor files, because none of the input is trusted: the runner writes
//! the response with a CI user's text in it, any user can set a variable with a token, and the keys
//! come from the network.
//!
//! A token's signature is checked over its raw bytes before anything inside it is decoded, so that
//! only JSON that the GitLab server signed is ever parsed (see [`mod@verify`]).

#![forbid(unsafe_code)]

mod admit;
mod admitted;
mod asked;
mod asked_wire;
mod claims;
mod containers;
mod job_token;
mod job_user;
mod keyfile;
mod place;
mod reader;
mod rejection;
mod response;
mod verify;
mod wire;

pub use admit::{Question, Server, admit};
pub use admitted::{Admitted, Source, UserIdentity};
pub use asked::{AskedContainers, AskedImage, AskedService, AskedVariable, MAX_SERVICES};
pub use claims::{Claims, fork_by_pipeline};
pub use containers::Containers;
pub use job_token::{JobQuestion, JobToken, MAX_JOB_ANSWER, MAX_JOB_TOKEN, admit_by_job_token, job_token};
pub use job_user::{JobUser, UserQuestion, job_user};
pub use keyfile::{KEYS_VERSION, KeyMaterial, KeysFile, MAX_KEYS, StoredKey};
pub use reader::WireError;
pub use rejection::{Bound, Rejection};
pub use response::{MAX_RESPONSE, Response};
pub use verify::{MAX_TOKEN, Verified, verify};
pub use wire::{
    MAX_MESSAGE, decode, decode_job_token, decode_job_user, encode, encode_job_token, encode_job_user,
};
