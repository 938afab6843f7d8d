//! URLs of stores, and what of them may be shown and kept.

/// The parameters of URLs that name files of secret keys. Since Nix 2.30 there may be several files, with commas between them.
pub const SECRET_KEYS: [&str; 2] = ["secret-key", "secret-keys"];

/// Whether a parameter of a URL, `NAME=VALUE`, names files of secret keys.
pub fn names_secret_keys(parameter: &str) -> bool {
    SECRET_KEYS.contains(&parameter.split('=').next().unwrap_or_default())
}

/// A URL, or the path of a store, without secrets: other users and the database get to see it.
pub fn shown(url: &str) -> String {
    let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
    let parameters = parameters.split('&').filter(|parameter| !parameter.is_empty() && !names_secret_keys(parameter));
    let parameters: Vec<&str> = parameters.collect();
    let mark = if parameters.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", without_password(place), parameters.join("&"))
}

/// A URL without the password of its user.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}{path}")
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (url, shown_url) in [
            ("/srv/store", "/srv/store"),
            ("file:///srv/cache", "file:///srv/cache"),
            ("s3://cache?region=eu&profile=ci", "s3://cache?region=eu&profile=ci"),
            ("s3://cache?secret-key=/a%20b/key&region=eu", "s3://cache?region=eu"),
            ("file:///srv/cache?secret-key=/key", "file:///srv/cache"),
            ("file:///srv/cache?secret-keys=/key,/other", "file:///srv/cache"),
            ("https://me:word@host/a@b?x=1", "https://me@host/a@b?x=1"),
            ("ssh-ng://me@host", "ssh-ng://me@host"),
        ] {
            assert_eq!(shown(url), shown_url);
        }
    }
}
