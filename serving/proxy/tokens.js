// Finds the owner of a token. A line of /secrets/tokens: SHA-256 of the token, name of the owner, first day of invalidity.
// The file is read at each request, so that added and removed tokens are effective at once.
import crypto from 'crypto';
import fs from 'fs';

function owner(r) {
    const given = /^Bearer ([^ ]+)$/i.exec(r.headersIn.Authorization || '');
    if (!given) {
        return '';
    }
    const hash = crypto.createHash('sha256').update(given[1]).digest('hex');
    const lines = read(r, r.variables.gm_secrets + '/tokens').split('\n');
    for (let i = 0; i < lines.length; i++) {
        const fields = lines[i].trim().split(/\s+/);
        // With an invalid date the comparison is false, so the token is refused.
        if (fields.length === 3 && fields[0] === hash && new Date() < new Date(fields[2])) {
            return fields[1];
        }
    }
    return '';
}

function read(r, path) {
    try {
        return fs.readFileSync(path, 'utf8');
    } catch (error) {
        r.error(`${path} cannot be read (${error.message}), so nobody is let in`);
        return '';
    }
}

export default { owner };
