//! Parses a command line as the schedulers' commands do.

/// What a command was called with: options with their values, then the rest.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) options: Vec<(String, String)>,
    pub(super) rest: Vec<String>,
}

impl Words {
    /// The last value of an option.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of an option, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// As getopt(3): letters, those with a colon behind them with a value. An unknown one is the error.
pub(super) fn letters(arguments: &[String], known: &str) -> Result<Words, String> {
    let mut words = Words::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(cluster) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            words.rest.push(argument.clone());
            break;
        };
        if cluster == "-" {
            break;
        }
        for (at, letter) in cluster.char_indices() {
            let place = known.find(letter).filter(|_| letter != ':').ok_or_else(|| letter.to_string())?;
            if known[place + 1..].starts_with(':') {
                let glued = &cluster[at + letter.len_utf8()..];
                let value = match glued {
                    "" => arguments.next().cloned().ok_or_else(|| letter.to_string())?,
                    glued => glued.to_owned(),
                };
                words.options.push((letter.to_string(), value));
                break;
            }
            words.options.push((letter.to_string(), String::new()));
        }
    }
    words.rest.extend(arguments.cloned());
    Ok(words)
}

/// Words with one dash, as LSF and Grid Engine have them: name and number of values. An unknown one is the error.
pub(super) fn dashed(arguments: &[String], known: &[(&str, usize)]) -> Result<Words, String> {
    let mut words = Words::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if !argument.starts_with('-') || argument == "-" {
            words.rest.push(argument.clone());
            break;
        }
        let (_, values) = known.iter().find(|(name, _)| name == argument).ok_or_else(|| argument.clone())?;
        let values: Vec<String> = arguments.by_ref().take(*values).cloned().collect();
        words.options.push((argument.clone(), values.join(" ")));
    }
    words.rest.extend(arguments.cloned());
    Ok(words)
}

/// GNU's: `--name=value`, `--name value`, `-x value`, `-xvalue`; names that begin an option stand for it. `known` has
/// groups of names for one option, the first its own, and whether it has a value.
pub(super) fn gnu(arguments: &[String], known: &[(&[&str], bool)]) -> Result<Words, String> {
    let mut words = Words::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            break;
        }
        if !argument.starts_with('-') || argument == "-" {
            words.rest.push(argument.clone());
            continue;
        }
        let long = argument.starts_with("--");
        let (name, glued) = match argument.split_once('=') {
            Some((name, value)) if long => (name.to_owned(), Some(value.to_owned())),
            _ if !long && argument.len() > 2 => (argument[..2].to_owned(), Some(argument[2..].to_owned())),
            _ => (argument.clone(), None),
        };
        let (names, has_value) =
            known.iter().find(|(names, _)| names.contains(&name.as_str())).ok_or_else(|| argument.clone())?;
        let value = match (has_value, glued) {
            (true, Some(value)) => value,
            (true, None) => arguments.next().cloned().ok_or_else(|| argument.clone())?,
            (false, Some(letters)) if !long => {
                // A cluster of letters without values.
                for letter in letters.chars() {
                    let name = format!("-{letter}");
                    let found = known.iter().find(|(names, _)| names.contains(&name.as_str()));
                    let (names, _) = found.ok_or_else(|| argument.clone())?;
                    words.options.push((names[0].to_owned(), String::new()));
                }
                String::new()
            }
            (false, _) => String::new(),
        };
        words.options.push((names[0].to_owned(), value));
    }
    words.rest.extend(arguments.cloned());
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::{gnu, letters};

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn letters_are_read_as_getopt_reads_them() {
        let read = letters(&words("-r n -Nname -zf script -x"), "r:N:zf").expect("read");
        assert_eq!((read.get("r"), read.get("N"), read.has("z")), (Some("n"), Some("name"), true));
        assert_eq!(read.rest, ["script", "-x"]);
        assert_eq!(letters(&words("--frob"), "r:").expect_err("unknown"), "-");
    }

    #[test]
    fn long_options_take_their_values_both_ways() {
        let known: &[(&[&str], bool)] =
            &[(&["--time", "-t"], true), (&["--all", "-a"], false), (&["--no", "-n"], false)];
        let read = gnu(&words("--time=1 -t 2 -t3 -an x"), known).expect("read");
        assert_eq!(read.all("--time").collect::<Vec<_>>(), ["1", "2", "3"]);
        assert!(read.has("--all") && read.has("--no") && read.rest == ["x"]);
    }
}
