//! Which image it is: the digest of the manifest that the registry has under a name.
//!
//! An engine that keeps images in its own store knows it. For the others the description has a
//! command that asks the registry before the pull, which then takes the image by its digest, or one
//! that looks at what a pull has left.

use crate::auth::AuthFile;
use crate::call::Called;
use crate::copies::{Copy, about_image};
use crate::description::{Description, Digest};
use crate::names::{ImageName, Reference, is_digest};
use crate::partial::Partial;
use crate::pull::{Puller, said};
use crate::resolved::Resolved;
use crate::trouble::{Cause, Failure, Password};
use std::path::Path;
use std::time::Duration;

/// The longest time for such a command.
const LONGEST: Duration = Duration::from_secs(60);

/// A digest, or why it is not known, in words for the user.
pub(crate) type Known = Result<String, String>;

impl Digest {
    /// The digest in the output of its command.
    fn of(&self, output: &str) -> Option<String> {
        let found = self.found.iter().find_map(|pattern| pattern.0.captures(output)?.get(1));
        let text = found?.as_str();
        [text.to_owned(), format!("sha256:{text}")].into_iter().find(|text| is_digest(text))
    }
}

impl Puller<'_> {
    /// The digest that the registry has under the name now; `None` where nothing asks it.
    pub(crate) fn asked(
        &self,
        partial: &Partial,
        auth: &AuthFile,
        left: Duration,
    ) -> Result<Option<Known>, Failure> {
        match (&self.description.resolve, self.name) {
            (Some(resolve), ImageName::Registry(name)) if name.digest.is_none() => {
                let asked = self.digest(resolve, partial, auth, left)?;
                if let (Err(said), Some(pull)) = (&asked, &self.description.pull)
                    && Cause::of(pull, &self.name.masked(said)) == Cause::Broken
                {
                    // The engine may take it all the same, without a word.
                    return Err(Cause::Broken.failure(&self.name.full(), said, "", Password::None));
                }
                Ok(Some(asked))
            }
            _ => Ok(None),
        }
    }

    /// The digest of what a pull has brought.
    pub(crate) fn brought(
        &self,
        asked: Option<Known>,
        partial: &Partial,
        auth: &AuthFile,
        left: Duration,
    ) -> Result<Known, Failure> {
        let looked = self.description.pull.as_ref().and_then(|pull| pull.digest.as_ref());
        match (self.name.digest(), asked, looked) {
            (Some(digest), ..) => Ok(Ok(digest.to_owned())),
            (None, Some(asked), _) => Ok(asked),
            (None, None, Some(looked)) => self.digest(looked, partial, auth, left),
            (None, None, None) => Ok(Err(silent(self.description))),
        }
    }

    fn digest(
        &self,
        digest: &Digest,
        partial: &Partial,
        auth: &AuthFile,
        left: Duration,
    ) -> Result<Known, Failure> {
        let mut values = self.values.clone();
        values.insert("reference", self.name.for_engine(&self.description.images));
        values.insert("work", partial.path().display().to_string());
        values.insert("auth", auth.path().display().to_string());
        Ok(match self.engine(&digest.command, &values, &[], left.min(LONGEST))? {
            Called::Ended(output) if output.status.is_some_and(|status| status.success()) => {
                digest.of(&output.out).ok_or_else(|| said(&output))
            }
            Called::Ended(output) => Err(said(&output)),
            Called::Late => Err("the registry did not say it in time".to_owned()),
            Called::Cancelled => return Err(Failure::Cancelled),
        })
    }

    /// The current copy, if it is what the registry has.
    pub(crate) fn same(&self, asked: Option<&Known>) -> Result<Option<Copy>, Failure> {
        let Some(Ok(digest)) = asked else { return Ok(None) };
        Ok(self.take()?.filter(|copy| copy.about.digest.as_ref() == Some(digest)))
    }

    /// The name to pull: by its digest where that is known, because a tag may move meanwhile.
    pub(crate) fn by_digest(&self, asked: Option<&Known>) -> ImageName {
        match (self.name, asked) {
            (ImageName::Registry(name), Some(Ok(digest))) => {
                ImageName::Registry(Reference { tag: None, digest: Some(digest.clone()), ..name.clone() })
            }
            (name, _) => name.clone(),
        }
    }

    /// Why the digest of an image is not known.
    pub(crate) fn why_unknown(&self, image: &Resolved) -> String {
        about_image(Path::new(&image.for_create))
            .and_then(|about| about.no_digest)
            .unwrap_or_else(|| silent(self.description))
    }
}

fn silent(description: &Description) -> String {
    format!("{} does not say it", description.title)
}

#[cfg(test)]
mod tests {
    use crate::description::Description;
    use nunbird_handover::Engine;

    #[test]
    fn the_digest_of_what_was_pulled_wins_over_that_of_the_list_it_was_chosen_from() {
        let charliecloud = Description::of(&Engine::Named("charliecloud".to_owned())).expect("an engine");
        let digest = charliecloud.pull.expect("a verb").digest.expect("a command");
        let (fat, skinny) = ("a".repeat(64), "b".repeat(64));
        let list = format!("{fat}  /w/storage/dlcache/r%2Fa+1.fat.json\n");
        let both = format!("{list}{skinny}  /w/storage/dlcache/r%2Fa+1%skinny.manifest.json\n");
        assert_eq!(digest.of(&list), Some(format!("sha256:{fat}")));
        assert_eq!(digest.of(&both), Some(format!("sha256:{skinny}")));
        assert_eq!(digest.of(&format!("{fat}  /w/storage/dlcache/{fat}.json\n")), None);
        assert_eq!(digest.of(&list.replace(&fat, "abc")), None);
    }
}
