//! Where an account's jobs work.

use std::path::{Path, PathBuf};

/// `directories.data_dir` with `$HOME` and `$USER` filled in. None where the home directory has characters that a shell would
/// interpret: gitlab-runner writes paths below it into scripts inside double quotes, where a `$` or a backquote would run.
pub fn data_dir(template: &str, user: &str, home: &Path) -> Option<PathBuf> {
    let home = home.to_str()?;
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+' | '@' | ',' | '=' | ':');
    let path = template.replace("$HOME", home.trim_end_matches('/')).replace("$USER", user);
    (path.starts_with('/') && path.chars().all(plain)).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::data_dir;
    use std::path::Path;

    #[test]
    fn a_home_that_a_shell_would_interpret_has_no_data_directory() {
        let filled = |template, home: &str| data_dir(template, "ada", Path::new(home));
        assert_eq!(filled("$HOME/.nunbird", "/home/ada/").as_deref(), Some(Path::new("/home/ada/.nunbird")));
        assert_eq!(filled("/scratch/$USER", "/home/$(id)").as_deref(), Some(Path::new("/scratch/ada")));
        for home in ["/home/$(id)", "/home/a b", "/home/`id`", "/home/a\nb", "/home/\"", "ada"] {
            assert_eq!(filled("$HOME/.nunbird", home), None, "{home}");
        }
    }
}
