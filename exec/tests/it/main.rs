//! Files of pipelines as GitLab reads them, and files that are meant to do harm.

#![forbid(unsafe_code)]

mod hostile;
mod jobs;
mod manual;
mod project;
mod rules;
