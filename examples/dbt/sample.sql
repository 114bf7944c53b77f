-- An access log to try this with: the last days of three users.
create schema log;
create table log.nginx (access_at timestamp not null, user_id integer not null, path varchar(1000));
insert into log.nginx values
    (current_date - 9 + time '08:00', 1, '/'), (current_date - 9 + time '08:01', 2, '/'),
    (current_date - 3 + time '08:00', 1, '/'), (current_date - 3 + time '09:00', 1, '/about'),
    (current_date - 1 + time '10:00', 1, '/'), (current_date - 1 + time '10:00', 2, '/'), (current_date - 1 + time '11:00', 3, '/');
