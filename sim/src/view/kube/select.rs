//! Label selectors: `-l app=web,tier!=db,release`.

use std::str::FromStr;

use indexmap::IndexMap;

/// All requirements must hold; the empty selector fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Equals(String, String),
    Differs(String, String),
    Has(String),
    Lacks(String),
}

/// The text is no equality-based label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no label requirement: key=value, key!=value, key or !key is wanted")]
pub struct ParseSelectorError(String);

impl Selector {
    /// Whether an object with these labels is meant.
    #[must_use]
    pub fn fits(&self, labels: &IndexMap<String, String>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| match requirement {
                Requirement::Equals(key, value) => labels.get(key) == Some(value),
                Requirement::Differs(key, value) => labels.get(key) != Some(value),
                Requirement::Has(key) => labels.contains_key(key),
                Requirement::Lacks(key) => !labels.contains_key(key),
            })
    }
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        let requirements = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                let wrong = || ParseSelectorError(part.to_owned());
                let plain = |key: &str| {
                    let ok = !key.is_empty() && !key.contains(['=', '!', ' ', '(', ')']);
                    ok.then(|| key.to_owned()).ok_or_else(wrong)
                };
                if let Some((key, value)) = part.split_once("!=") {
                    Ok(Requirement::Differs(plain(key)?, value.to_owned()))
                } else if let Some((key, value)) = part.split_once('=') {
                    let value = value.strip_prefix('=').unwrap_or(value);
                    Ok(Requirement::Equals(plain(key)?, value.to_owned()))
                } else if let Some(key) = part.strip_prefix('!') {
                    Ok(Requirement::Lacks(plain(key)?))
                } else {
                    Ok(Requirement::Has(plain(part)?))
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        selector.parse::<Selector>().unwrap().fits(&labels)
    }

    #[test]
    fn every_requirement_must_hold() {
        let web = [("app", "web"), ("tier", "front")];
        for (selector, want) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("tier", true),
            ("!tier", false),
            ("!zone", true),
            ("app=web,tier=back", false),
            ("app=web, tier=front", true),
        ] {
            assert_eq!(fits(selector, &web), want, "{selector}");
        }
    }

    #[test]
    fn a_set_based_requirement_is_refused() {
        let error = "app in (a, b)".parse::<Selector>().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`app in (a` is no label requirement")
        );
    }
}
